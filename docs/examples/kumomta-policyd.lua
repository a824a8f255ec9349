-- Policy for KumoMTA that asks policyd which TLS policy applies to mail for a domain.
-- In init.lua, add `local policyd = dofile '/opt/kumomta/etc/policy/policyd.lua'` and call policyd.setup() before your own
-- handlers of the same events. docs/other-mtas.md describes its limits. Whenever the script is in doubt, it defers the mail.
local kumo = require 'kumo'
local mod = {}

local URL = 'http://127.0.0.1:2527/v1/policy?domain='

-- One egress source for each policy. KumoMTA shares a path, and its connections, only between mail with the same source.
local PATHS = {
  ['policyd-secure'] = { enable_tls = 'Required', enable_mta_sts = false, enable_dane = false },
  ['policyd-dane'] = { enable_tls = 'Required', enable_mta_sts = false, enable_dane = true },
}

-- ask returns the status and the text of a policy. It raises an error if policyd does not answer.
function mod.ask(domain)
  if not domain:match '^[%w._-]+$' then
    error 'the name of the domain has other characters than letters, digits, dots, hyphens and underscores'
  end
  local client = kumo.http.build_client { timeout = '15 seconds' }
  local response = client:get(URL .. domain):send()
  if response:status_code() ~= 200 then
    error('policyd answered with HTTP status ' .. response:status_code())
  end
  local policy = kumo.serde.json_parse(response:text()).tls_policy
  return policy.status, policy.text or ''
end

-- decide returns the settings of a queue, or nil if there is no policy. It raises an error if the mail must wait.
function mod.decide(domain)
  local status, text = mod.ask(domain)
  if status == 'NOTFOUND' then
    return nil
  end
  if status == 'OK' and text == 'dane' then
    return { egress_pool = 'policyd-dane' }
  end
  local match = status == 'OK' and text:match '^secure match=(%S+) servername=hostname$'
  if not match then -- KumoMTA cannot require DANE, so "dane-only" ends here too
    error(tostring(status) .. ' ' .. text)
  end
  local names, hosts = {}, {}
  for name in match:lower():gmatch '[^:]+' do
    names[name] = true
  end
  for _, mx in ipairs(kumo.dns.lookup_mx(domain).hosts) do
    local host = mx:lower():gsub('%.$', '')
    if names[host] or names[host:match '%..*$' or ''] then
      table.insert(hosts, host)
    end
  end
  assert(#hosts > 0, 'the TLS policy names no MX host of the domain')
  return { egress_pool = 'policyd-secure', protocol = { smtp = { mx_list = hosts } } }
end

function mod.setup()
  kumo.on('get_queue_config', function(domain, _, _, routing_domain)
    local ok, config = pcall(mod.decide, routing_domain or domain)
    if not ok then
      config = { protocol = { custom_lua = { constructor = 'policyd_defer' } } }
    end
    return config and kumo.make_queue_config(config) -- nil: your own handler applies
  end)
  kumo.on('policyd_defer', function()
    return { send = function() kumo.reject(451, '4.7.5 no usable TLS policy') end }
  end)
  kumo.on('get_egress_pool', function(pool)
    return PATHS[pool] and kumo.make_egress_pool { name = pool, entries = { { name = pool } } }
  end)
  kumo.on('get_egress_source', function(source)
    return PATHS[source] and kumo.make_egress_source { name = source }
  end)
  kumo.on('get_egress_path_config', function(_, source)
    return PATHS[source] and kumo.make_egress_path(PATHS[source])
  end)
end

return mod

-- Runs the handler of get_queue_config in a KumoMTA that has only these functions.
-- usage: kumomta.lua POLICY STATUS TEXT MX... (the status "HTTP" means that policyd does not answer)
local on = {}
local function same(value) return value end
package.preload.kumo = function()
  return {
    on = function(event, handler) on[event] = handler end,
    make_queue_config = same, make_egress_path = same, make_egress_pool = same, make_egress_source = same,
    reject = function(code) error('reject ' .. code, 0) end,
    dns = { lookup_mx = function() return { hosts = { table.unpack(arg, 4) } } end },
    serde = { json_parse = function() return { tls_policy = { status = arg[2], text = arg[3] } } end },
    http = { build_client = function()
      return { get = function() return { send = function()
        return { status_code = function() return arg[2] == 'HTTP' and 503 or 200 end, text = function() return '' end }
      end } end }
    end },
  }
end
dofile(arg[1]).setup()
local queue = on.get_queue_config('example.com', '', '', nil)
if not queue then return print 'own' end
local path = on.get_egress_path_config('example.com', queue.egress_pool, '') or {}
if queue.protocol and queue.protocol.custom_lua then
  local _, err = pcall(on[queue.protocol.custom_lua.constructor]().send)
  return print(err)
end
print(path.enable_tls, path.enable_dane, queue.protocol and table.concat(queue.protocol.smtp.mx_list, ',') or 'MX')

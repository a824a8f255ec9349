// Plugin for Haraka 3.3.4 or later: asks policyd which TLS policy applies to mail for a domain.
// Copy it to plugins/policyd.js, and add "policyd" to config/plugins above other plugins that have a get_mx hook.
// docs/other-mtas.md describes its limits. Whenever the plugin is in doubt, it defers the mail.
'use strict'

const dns = require('node:dns').promises
const http = require('node:http')

const url = 'http://127.0.0.1:2527/v1/policy?domain='

exports.register = function () {
    this.register_hook('get_mx', 'policyd')
}

exports.policyd = async function (next, hmail, domain) {
    delete hmail.get_force_tls // of an earlier attempt
    let hosts
    try {
        hosts = await exports.hosts(domain)
        if (hosts) require_tls(this, hmail)
    } catch (err) {
        this.logwarn(`no usable TLS policy: domain=${domain} error=${err.message}`)
        return next(DENYSOFT, `no usable TLS policy: ${err.message}`)
    }
    if (hosts) next(OK, hosts)
    else next()
}

// hosts returns the MX hosts that the policy of a domain names, or null if there is no policy. It throws if the mail must wait.
exports.hosts = async function (domain) {
    const policy = JSON.parse(await ask(domain)).tls_policy
    if (policy.status === 'NOTFOUND') return null
    const secure = /^secure match=(\S+) servername=hostname$/.exec(policy.text)
    // Haraka has no DANE, so the policies "dane" and "dane-only" end here too.
    if (policy.status !== 'OK' || !secure) throw new Error(`${policy.status} ${policy.text}`)
    const names = secure[1].toLowerCase().split(':')
    const named = (host) => names.includes(host) || names.includes(host.slice(host.indexOf('.')))
    const mxs = await dns.resolveMx(domain)
    const hosts = mxs
        .map((mx) => ({ priority: mx.priority, exchange: mx.exchange.toLowerCase().replace(/\.$/, '') }))
        .filter((mx) => mx.exchange.includes('.') && named(mx.exchange))
        .sort((a, b) => a.priority - b.priority)
    if (!hosts.length) throw new Error('the TLS policy names no MX host of the domain')
    return hosts
}

// require_tls makes Haraka require TLS and a certificate for the name of the host. It throws where Haraka would not do so.
function require_tls(plugin, hmail) {
    const [major, minor, patch] = plugin.haraka_require('package.json').version.split('.').map(Number)
    if (!(major * 1e6 + minor * 1e3 + patch >= 3003004)) throw new Error('this plugin needs Haraka 3.3.4 or later')
    if (typeof hmail.get_force_tls !== 'function') throw new Error('this version of Haraka cannot require TLS')
    hmail.get_force_tls = () => true
}

function ask(domain) {
    return new Promise((resolve, reject) => {
        const request = http.get(url + encodeURIComponent(domain), { timeout: 15000, agent: false }, (response) => {
            let body = ''
            response.setEncoding('utf8')
            response.on('data', (data) => (body += data))
            response.on('error', reject)
            response.on('end', () => {
                if (response.statusCode === 200) resolve(body)
                else reject(new Error(`policyd answered with HTTP status ${response.statusCode}`))
            })
        })
        request.on('timeout', () => request.destroy(new Error('policyd did not answer in time')))
        request.on('error', reject)
    })
}

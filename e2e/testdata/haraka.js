// Runs the plugin for Haraka as Haraka 3.3.4 does: in a context that has only these names. usage: haraka.js PLUGIN VERSION DOMAIN
const [, , file, version, domain] = process.argv
const plugin = { logwarn: (text) => console.log(text), haraka_require: () => ({ version }) }
const names = { require, exports: plugin, process, Buffer, OK: 'OK', DENYSOFT: 'DENYSOFT' }
require('node:vm').runInNewContext(require('node:fs').readFileSync(file, 'utf8'), names, file)
class HMail {
    get_force_tls() { return false }
}
const hmail = new HMail()
hmail.get_force_tls = () => true // of an earlier attempt
const next = (code = 'CONT', hosts = '') =>
    console.log(`result=${code} hosts=${code === 'OK' ? hosts.map((mx) => mx.exchange) : ''} tls=${hmail.get_force_tls()}`)
plugin.policyd(next, hmail, domain)

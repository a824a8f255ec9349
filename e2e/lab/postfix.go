package lab

import (
	"context"
	"errors"
	"fmt"
	"net/smtp"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/policyd/policyd/e2e/daemon"
	"github.com/policyd/policyd/e2e/must"
)

// Postfix is the sender: Debian's own default files, then the examples of this project as they are, then what
// only the lab needs.
type Postfix struct {
	source string // the top of the source tree
	dir    string // the directory of the lab
	system string // the directory that is the root of its file system; "" is our own
	more   string // settings of this lab alone
	*daemon.Process
}

// The settings of the lab come last, so they take effect. Postfix retries only when a case asks for it, and does not
// throttle a destination that failed, so that the next mail is tried.
const labMain = `
# The lab
maillog_file = /dev/stdout
myhostname = %[1]s
mydestination = $myhostname, %[2]s, %[4]s, localhost
mynetworks = 127.0.0.0/8 [::1]/128
inet_interfaces = 127.0.0.1
inet_protocols = all
alias_maps = texthash:/etc/postfix/aliases
alias_database =
local_recipient_maps =
relayhost =
sender_dependent_default_transport_maps = inline:{ { %[5]s = hosts:[%[6]s] } }
smtp_tls_CAfile = %[3]s
smtp_tls_CApath =
smtp_tls_loglevel = 1
smtpd_tls_security_level = none
smtpd_relay_restrictions = permit_mynetworks, reject_unauth_destination
queue_run_delay = 1h
minimal_backoff_time = 1s
maximal_backoff_time = 1h
transport_retry_time = 1s
smtp_connect_timeout = 3s
smtp_helo_timeout = 5s
smtp_starttls_timeout = 3s
`

// labMaster is a transport that looks hosts up in /etc/hosts.
const labMaster = `
hosts unix - - y - - smtp
  -o syslog_name=postfix/hosts
  -o smtp_host_lookup=native
  -o smtp_dns_support_level=enabled
`

// Mail from RelayedSender goes through RelayHost, whose zone does not validate.
const (
	RelayedSender = "relayed@" + OwnDomain
	RelayHost     = "relay.expired.test"
)

// Lookup asks a lookup table for a key, as Postfix's own programs do. It returns "" for a missing key.
func (p *Postfix) Lookup(ctx context.Context, table, key string) (string, error) {
	out, err := p.run(ctx, "postmap", "-q", key, table)
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.ExitCode() == 1 && out == "" {
		return "", nil
	}
	return strings.TrimSpace(out), err
}

// Start starts Postfix and waits until it accepts mail.
func (p *Postfix) Start(ctx context.Context) error {
	return must.Catch(func() {
		p.configure()
		p.Process = must.Get(daemon.Command{Root: p.system, Path: "postfix", Arguments: []string{"start-fg"}}.Start())
		must.Do(p.Ready(ctx, "accepts mail", func(context.Context) error {
			c, err := smtp.Dial("127.0.0.1:25")
			if err == nil {
				err = c.Close()
			}
			return err
		}))
	})
}

// Stop ends Postfix: the start script, the master process and its children.
func (p *Postfix) Stop() {
	if p.Process != nil {
		_, _ = p.run(context.Background(), "postfix", "stop") // an error means that it has already ended
		_ = p.Process.Stop()
	}
}

// configure writes /etc/postfix and the queue directory.
func (p *Postfix) configure() {
	own := fmt.Sprintf(labMain, Hostname, OwnDomain, p.inside("ca.pem"), HostedDomain, RelayedSender, RelayHost) +
		p.more
	share := p.path("/usr/share/postfix")
	must.Do(
		compose(p.path("/etc/postfix/main.cf"), p.example()+own, share+"/main.cf.debian", share+"/main.cf.tls"),
		compose(p.path("/etc/postfix/master.cf"), labMaster, share+"/master.cf.dist",
			filepath.Join(p.source, "postfix", "master.cf.example")),
		write(p.path("/etc/postfix/aliases"), "someone "+p.inside("mailbox")+"\n"),
		// local(8) writes to it without the privileges of root.
		write(p.mailbox(), ""), os.Chmod(p.mailbox(), 0o666))
	owner := must.Get(user.Lookup("postfix"))
	must.Do(os.Chown(p.path("/var/lib/postfix"), must.Get(strconv.Atoi(owner.Uid)), -1))
	// Debian's services run in a chroot, the queue directory.
	for _, file := range []string{"resolv.conf", "hosts", "services", "nsswitch.conf"} {
		data := must.Get(os.ReadFile(filepath.Join("/etc", file)))
		for _, dir := range []string{"/var/spool/postfix/etc", "/etc"} {
			must.Do(write(filepath.Join(p.path(dir), file), string(data)))
		}
	}
}

// path is the path of a file of Postfix outside its tree.
func (p *Postfix) path(file string) string { return filepath.Join("/", p.system, file) }

// inside is the path of a file of the lab inside the tree of Postfix.
func (p *Postfix) inside(file string) string {
	if p.system != "" {
		return filepath.Join("/lab", file)
	}
	return filepath.Join(p.dir, file)
}

func (p *Postfix) run(ctx context.Context, program string, args ...string) (string, error) {
	return daemon.Output(ctx, p.system, program, args...)
}

// example returns main.cf.example as an operator uses it, with the domain of this site in its guard map.
func (p *Postfix) example() string {
	path := filepath.Join(p.source, "postfix", "main.cf.example")
	before, after, found := strings.Cut(string(must.Get(os.ReadFile(path))), `#       {/@(.*\.)?own\.example$$/  :}`)
	if !found {
		must.Do(fmt.Errorf("%s no longer has a line for own domains", path))
	}
	return before + `        {/@(.*\.)?own\.test$$/  :}` + after
}

// mailbox is the file that the lab's own mail is delivered to.
func (p *Postfix) mailbox() string { return filepath.Join(p.dir, "mailbox") }

// Mailbox returns what was delivered to the lab's own user.
func (p *Postfix) Mailbox() string { return string(must.Get(os.ReadFile(p.mailbox()))) }

func compose(path, end string, parts ...string) error {
	var all strings.Builder
	for _, part := range parts {
		all.Write(append(must.Get(os.ReadFile(part)), '\n'))
	}
	return write(path, last(all.String()+end))
}

var parameter = regexp.MustCompile(`^(\w+)\s*=`)

// last keeps the last setting of each parameter, which Postfix uses: its programs warn about the others.
func last(text string) string {
	lines := strings.SplitAfter(text, "\n")
	set := map[string]bool{}
	end := len(lines) // the end of the current setting, including its continuation lines
	for i, line := range slices.Backward(lines) {
		name := parameter.FindStringSubmatch(line)
		continuation := strings.HasPrefix(line, " ") || strings.HasPrefix(line, "\t")
		switch {
		case name != nil && set[name[1]]:
			clear(lines[i:end])
		case name != nil:
			set[name[1]] = true
		}
		if !continuation && !strings.HasPrefix(line, "#") {
			end = i
		}
	}
	return strings.Join(lines, "")
}

func write(path, data string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(data), 0o644)
}

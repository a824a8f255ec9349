//go:build e2e

package container

import (
	"bytes"
	"crypto/sha256"
	"encoding/pem"
	"fmt"
	"net/netip"
	"net/smtp"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/policyd/policyd/e2e/lab"
	"github.com/policyd/policyd/e2e/lab/zone"
	"github.com/policyd/policyd/internal/smtptls/smtptest"
)

func TestMain(m *testing.M) { os.Exit(lab.Isolated(m.Run)) }

// service is a service of compose.yaml. Other keys are a mistake.
type service struct {
	Image string `yaml:"image"`
	Build struct {
		Dockerfile string `yaml:"dockerfile_inline"`
	} `yaml:"build"`
	Command     []string          `yaml:"command"`
	User        string            `yaml:"user"`
	NetworkMode string            `yaml:"network_mode"`
	ReadOnly    bool              `yaml:"read_only"`
	CapDrop     []string          `yaml:"cap_drop"`
	CapAdd      []string          `yaml:"cap_add"`
	SecurityOpt []string          `yaml:"security_opt"`
	Sysctls     map[string]string `yaml:"sysctls"`
	MemLimit    string            `yaml:"mem_limit"`
	Volumes     []string          `yaml:"volumes"`
	Tmpfs       []string          `yaml:"tmpfs"`
	Ports       []string          `yaml:"ports"`
	DependsOn   any               `yaml:"depends_on"`
	Restart     string            `yaml:"restart"`
}

func strict(t *testing.T, file string, v any) {
	t.Helper()
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	require.NoError(t, d.Decode(v))
}

func composed(t *testing.T) map[string]service {
	t.Helper()
	var file struct {
		Name     string             `yaml:"name"`
		Services map[string]service `yaml:"services"`
		Volumes  map[string]any     `yaml:"volumes"`
	}
	strict(t, "compose.yaml", &file)
	for name, s := range file.Services {
		require.True(t, s.ReadOnly, name)
		require.Equal(t, []string{"ALL"}, s.CapDrop, name)
		require.Contains(t, s.SecurityOpt, "no-new-privileges:true", name)
		if name != "unbound" {
			require.Equal(t, "service:unbound", s.NetworkMode, "the network namespace of the resolver")
		}
		for _, v := range s.Volumes {
			from, _, _ := strings.Cut(v, ":")
			if _, named := file.Volumes[from]; !named {
				require.FileExists(t, from)
				require.True(t, strings.HasSuffix(v, ":ro"), v)
			}
		}
	}
	return file.Services
}

// box is the environment of a service: a root directory that is read-only, with the volumes of the service, in the
// network namespace of the test.
type box struct {
	root string
	cmd  *exec.Cmd
	log  string
}

// run runs a service in root. The user is a number.
func run(t *testing.T, name string, s service, root, user string, env ...string) *box {
	t.Helper()
	var script strings.Builder
	// at creates a missing mount point, as an engine does.
	at := func(path string, dir bool) string {
		over := filepath.Join(root, path)
		require.NoError(t, os.MkdirAll(filepath.Dir(over), 0o755))
		if dir {
			require.NoError(t, os.MkdirAll(over, 0o755))
		} else if _, err := os.Stat(over); err != nil {
			require.NoError(t, os.WriteFile(over, nil, 0o644))
		}
		return over
	}
	fmt.Fprintf(&script, "set -e\nmount --make-rprivate /\nmount --bind %[1]s %[1]s\n", root)
	for _, path := range []string{"/dev", "/proc"} {
		fmt.Fprintf(&script, "mount --rbind %s %s\n", path, at(path, true))
	}
	for _, path := range s.Tmpfs {
		fmt.Fprintf(&script, "mount -t tmpfs tmpfs %s\n", at(path, true))
	}
	for _, v := range s.Volumes {
		parts := strings.Split(v, ":")
		if strings.Contains(parts[0], "/") {
			from, err := filepath.Abs(parts[0])
			require.NoError(t, err)
			fmt.Fprintf(&script, "mount --bind %[1]s %[2]s\nmount -o remount,ro,bind %[2]s\n", from, at(parts[1], false))
			continue
		}
		fmt.Fprintf(&script, "mount --bind %[1]s %[1]s\n", at(parts[1], true))
	}
	caps := "-all,+sys_chroot,+setuid,+setgid" // which chroot needs
	for _, c := range s.CapAdd {
		caps += ",+" + strings.ToLower(c)
	}
	fmt.Fprintf(&script, "mount -o remount,ro,bind %s\n", root)
	fmt.Fprintf(&script, "exec env -i PATH=/usr/sbin:/usr/bin %s /usr/bin/setpriv --clear-groups --no-new-privs --bounding-set %s \\\n"+
		"\t/usr/sbin/chroot --userspec=%s %s %s\n", strings.Join(env, " "), caps, user, root, strings.Join(s.Command, " "))
	b := &box{root: root, log: filepath.Join(t.TempDir(), name)}
	log, err := os.Create(b.log)
	require.NoError(t, err)
	b.cmd = exec.Command("unshare", "--mount", "sh", "-c", script.String())
	b.cmd.Stdout, b.cmd.Stderr = log, log
	require.NoError(t, b.cmd.Start())
	t.Cleanup(func() {
		_ = b.cmd.Process.Kill()
		_ = b.cmd.Wait()
		_ = log.Close()
		if t.Failed() {
			t.Logf("%s:\n%s", name, b.text())
		}
	})
	return b
}

func (b *box) text() string {
	text, _ := os.ReadFile(b.log)
	return string(text)
}

// debian returns a copy of the unpacked packages of Debian, as the services that are built from it have them.
func debian(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	out, err := exec.Command("cp", "-a", "../../bin/container/root/.", root).CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.NoError(t, os.Chmod(root, 0o755))
	write(t, root, "etc/passwd", "root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\nunbound:x:64000:64000::/:/bin/false\npostfix:x:64001:64001::/:/bin/false\n")
	write(t, root, "etc/group", "root:x:0:\nnogroup:x:65534:\nunbound:x:64000:\npostfix:x:64001:\npostdrop:x:64002:\n")
	write(t, root, "etc/nsswitch.conf", "hosts: files dns\n")
	write(t, root, "etc/services", "smtp 25/tcp\n")
	for file, from := range map[string]string{"master.cf": "master.cf.dist", "dynamicmaps.cf": "dynamicmaps.cf", "main.cf": "main.cf.debian"} {
		text, err := os.ReadFile(filepath.Join(root, "usr/share/postfix", from))
		require.NoError(t, err)
		write(t, root, "etc/postfix/"+file, string(text))
	}
	return root
}

func write(t *testing.T, root, file, text string) {
	t.Helper()
	path := filepath.Join(root, file)
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(t, os.RemoveAll(path))
	require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
}

// internet is a private root with a signed zone, its authoritative server, a certificate authority and receivers.
func internet(t *testing.T, root string) (verified, dane *lab.Receiver, anchor, hints, ca string) {
	t.Helper()
	const server = "192.0.2.53"
	out, err := exec.Command("ip", "address", "add", server+"/32", "dev", "lo").CombinedOutput()
	require.NoError(t, err, "%s", out)
	tree, err := zone.NewTree(filepath.Join(root, "zones"), []zone.Zone{{Origin: "."}, {Origin: "com."}})
	require.NoError(t, err)
	authority := smtptest.NewCA(t)
	receiver := func(name, addr string, f lab.Flaw) *lab.Receiver {
		r := lab.NewReceiver(name, []netip.Addr{netip.MustParseAddr(addr)})
		require.NoError(t, r.Serve(25, lab.STARTTLS, lab.Issue(authority, name, f)))
		t.Cleanup(r.Close)
		require.NoError(t, tree.Add(name+". A "+addr))
		return r
	}
	verified = receiver("starttls-mx.verified.com", "127.20.1.1", lab.Good)
	dane = receiver("mx.dane.com", "127.20.2.1", lab.SelfSigned)
	key := sha256.Sum256(dane.Certificate(25).Leaf.RawSubjectPublicKeyInfo)
	require.NoError(t, tree.Add(zone.NameServer+" A "+server, "verified.com. MX 10 starttls-mx.verified.com.", "dane.com. MX 10 mx.dane.com.",
		fmt.Sprintf("_25._tcp.mx.dane.com. TLSA 3 1 1 %x", key)))
	conf := "server:\n  interface: " + server + "\n  access-control: 0.0.0.0/0 allow\n  username: \"\"\n  chroot: \"\"\n  directory: \"\"\n  pidfile: \"\"\n  use-syslog: no\n"
	require.NoError(t, tree.Write())
	for _, origin := range tree.Origins() {
		conf += fmt.Sprintf("auth-zone:\n  name: %q\n  zonefile: /zones/%s\n  for-downstream: yes\n  for-upstream: no\n", origin, zone.File(origin))
	}
	write(t, root, "etc/unbound/authority.conf", conf)
	run(t, "authority", service{
		Command: []string{"/usr/sbin/unbound", "-d", "-c", "/etc/unbound/authority.conf"}, CapAdd: []string{"NET_BIND_SERVICE"},
	}, root, "0:0")
	return verified, dane, tree.Anchor(), ". 3600000 NS " + zone.NameServer + "\n" + zone.NameServer + " 3600000 A " + server + "\n",
		string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: authority.Cert.Raw}))
}

// TestComposeDeliversVerified runs the services of compose.yaml as an engine would: the same files, commands, users,
// capabilities and network namespace. Only the root of the DNS and of the certificates is a private one.
func TestComposeDeliversVerified(t *testing.T) {
	services := composed(t)
	verified, dane, anchor, hints, ca := internet(t, debian(t))

	s := services["unbound"]
	root := debian(t)
	write(t, root, "usr/share/dns/root.key", anchor)
	write(t, root, "usr/share/dns/root.hints", hints)
	for key, value := range s.Sysctls {
		require.NoError(t, os.WriteFile("/proc/sys/"+strings.ReplaceAll(key, ".", "/"), []byte(value), 0o644))
	}
	require.Equal(t, "unbound", s.User)
	run(t, "unbound", s, root, "64000:64000")

	s = services["policyd"]
	require.Contains(t, s.Image, "localhost/policyd:")
	i := read(t, build(t)[runtime.GOARCH])
	c, layer := i.open(t, decode[index](t, i["index.json"]).Manifests[0])
	s.Command = append(c.Config.Entrypoint, c.Config.Cmd...)
	policyd := run(t, "policyd", s, unpack(t, layer), c.Config.User, c.Config.Env...)
	healthy := func() bool {
		args := append([]string{"-t", fmt.Sprint(policyd.cmd.Process.Pid), "-m", "chroot", policyd.root}, c.Config.Healthcheck.Test[1:]...)
		return exec.Command("nsenter", args...).Run() == nil
	}
	require.Eventually(t, healthy, time.Minute, 100*time.Millisecond, "the health check of the image")
	require.Eventually(t, func() bool { return strings.Contains(policyd.text(), "resolver passed its self-test") }, time.Minute, 50*time.Millisecond)

	s = services["postfix"]
	root = debian(t)
	write(t, root, "etc/ssl/certs/ca-certificates.crt", ca)
	require.Contains(t, s.Build.Dockerfile, "\nRUN postconf -F '*/*/chroot=n'\n")
	out, err := exec.Command("chroot", root, "/usr/sbin/postconf", "-F", "*/*/chroot=n").CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.NoError(t, os.MkdirAll(filepath.Join(root, "var/lib/postfix"), 0o755))
	require.NoError(t, os.Chown(filepath.Join(root, "var/lib/postfix"), 64001, 64001))
	// The receivers of this test use port 25 at other addresses in the same namespace.
	main, err := os.ReadFile("main.cf")
	require.NoError(t, err)
	require.Contains(t, string(main), "\ninet_interfaces = all\n")
	own := t.TempDir()
	write(t, own, "main.cf", strings.Replace(string(main), "\ninet_interfaces = all\n", "\ninet_interfaces = 127.0.0.1\n", 1))
	for i, v := range s.Volumes {
		s.Volumes[i] = strings.Replace(v, "./main.cf", own+"/main.cf", 1)
	}
	postfix := run(t, "postfix", s, root, "0:0")
	for _, r := range []*lab.Receiver{verified, dane} {
		domain := r.Name[strings.Index(r.Name, ".")+1:]
		mail := func() bool {
			return smtp.SendMail("127.0.0.1:25", nil, "someone@mail.example.com", []string{"someone@" + domain}, []byte("Subject: x\r\n\r\nThe secret\r\n")) == nil
		}
		require.Eventually(t, mail, time.Minute, 200*time.Millisecond)
		require.Eventually(t, func() bool { return len(r.Got("The secret")) > 0 }, time.Minute, 50*time.Millisecond)
		require.Eventually(t, func() bool {
			return strings.Contains(postfix.text(), "Verified TLS connection established to "+r.Name)
		}, time.Minute, 50*time.Millisecond)
		require.False(t, r.Seen("MAIL FROM"), "nothing in plaintext")
	}
}

// pod is what the tests need of kubernetes.yaml. Every key of a container must be one of these.
type pod struct {
	Spec struct {
		Template struct {
			Spec struct {
				HostNetwork bool   `yaml:"hostNetwork"`
				DNSPolicy   string `yaml:"dnsPolicy"`
				DNSConfig   struct {
					Nameservers []string
				} `yaml:"dnsConfig"`
				SecurityContext struct {
					Sysctls []struct{ Name, Value string }
				} `yaml:"securityContext"`
				Containers []struct {
					Name, Image     string
					Command, Args   []string
					SecurityContext struct {
						RunAsNonRoot             bool  `yaml:"runAsNonRoot"`
						RunAsUser                int   `yaml:"runAsUser"`
						RunAsGroup               int   `yaml:"runAsGroup"`
						ReadOnlyRootFilesystem   bool  `yaml:"readOnlyRootFilesystem"`
						AllowPrivilegeEscalation *bool `yaml:"allowPrivilegeEscalation"`
						Capabilities             struct{ Drop, Add []string }
					} `yaml:"securityContext"`
					StartupProbe  probe `yaml:"startupProbe"`
					LivenessProbe probe `yaml:"livenessProbe"`
					VolumeMounts  []struct {
						MountPath string `yaml:"mountPath"`
						SubPath   string `yaml:"subPath"`
						Name      string
						ReadOnly  bool `yaml:"readOnly"`
					} `yaml:"volumeMounts"`
				}
			}
		}
	}
}

type probe struct {
	Exec struct{ Command []string }
}

// TestThePodIsTheSameAsTheServices compares kubernetes.yaml with compose.yaml, which another test runs.
func TestThePodIsTheSameAsTheServices(t *testing.T) {
	text, err := os.ReadFile("kubernetes.yaml")
	require.NoError(t, err)
	var p pod
	require.NoError(t, yaml.Unmarshal(text, &p), "a key that is there twice is an error")
	spec := p.Spec.Template.Spec
	require.False(t, spec.HostNetwork)
	require.Equal(t, "None", spec.DNSPolicy)
	require.Equal(t, []string{"127.0.0.1"}, spec.DNSConfig.Nameservers)
	require.Len(t, spec.SecurityContext.Sysctls, 1)
	services := composed(t)
	require.Len(t, spec.Containers, len(services))
	for _, c := range spec.Containers {
		s, security := services[c.Name], c.SecurityContext
		require.NotEmpty(t, s.Volumes, c.Name)
		require.True(t, security.ReadOnlyRootFilesystem, c.Name)
		require.NotNil(t, security.AllowPrivilegeEscalation, c.Name)
		require.False(t, *security.AllowPrivilegeEscalation, c.Name)
		require.Equal(t, s.CapDrop, security.Capabilities.Drop, c.Name)
		require.Equal(t, s.CapAdd, security.Capabilities.Add, c.Name)
		require.Equal(t, s.Command, c.Command, c.Name)
		require.Equal(t, c.Name != "postfix", security.RunAsNonRoot && security.RunAsUser != 0, "only the master process of Postfix is root")
		if c.Name == "policyd" {
			require.Equal(t, s.Image, c.Image)
			require.Equal(t, []string{"/usr/bin/policyd", "status"}, c.LivenessProbe.Exec.Command)
			require.Equal(t, c.LivenessProbe, c.StartupProbe)
		}
		mounted := map[string]string{}
		for _, m := range c.VolumeMounts {
			mounted[m.MountPath] = m.SubPath
			require.Equal(t, m.Name == "files", m.ReadOnly, m.MountPath)
		}
		for _, v := range s.Volumes {
			parts := strings.Split(v, ":")
			if parts[1] == "/etc/resolv.conf" {
				continue // dnsConfig
			}
			require.Contains(t, mounted, parts[1])
			if file, ok := strings.CutPrefix(parts[0], "./"); ok {
				require.Equal(t, file, mounted[parts[1]])
			}
		}
		for _, path := range s.Tmpfs {
			require.Contains(t, mounted, path)
		}
	}
}

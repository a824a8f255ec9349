package settings

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/pelletier/go-toml/v2"
	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/fleet"
	"github.com/policyd/policyd/internal/text"
)

var update = flag.Bool("update", false, "write the golden files")

// load reads settings from text.
func load(t *testing.T, text string) (*Loaded, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "policyd.toml")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return Load(path)
}

// The names and defaults that users rely on.
const contract = `
mode = "enforce"
overrides = "/etc/policyd/overrides"
[server]
listen = ["127.0.0.1:2526"]
socket_mode = "0660"
socket_group = ""
max_connections = 4096
idle_timeout = "2m"
drain_timeout = "5s"
[dns]
servers = []
trust_ad = "auto"
timeout = "3s"
self_test = [".", "com."]
second_opinion = ""
[cache]
max_entries = 400000
state_dir = "/var/lib/policyd"
[policy]
unsigned_mx = "secure"
mixed_mx = "secure"
dane = true
mta_sts = true
[mta_sts]
proxy_from_environment = false
[promises]
vanished = "alert"
[fleet]
url = ""
key_file = ""
previous_key_file = ""
prefix = "policyd:"
pull = "10s"
[port26]
mode = "probe"
port = 26
transport = "smtps26"
wait = "200ms"
exclude_domains = []
own_hosts = []
helo_name = ""
probe_special_addresses = false
[tls]
ca_file = ""
[admin]
socket = "/run/policyd/admin.sock"
[http]
listen = ""
[metrics]
listen = ""
[log]
level = "info"
format = "auto"
lookups = "changes"
`

func TestDefaultsAreThoseOfTheContract(t *testing.T) {
	require.Equal(t, strings.ReplaceAll(contract, "\n[", "\n\n[")[1:], Default().TOML())
}

func TestEmptyFileGivesTheDefaults(t *testing.T) {
	l, err := load(t, "")
	require.NoError(t, err)
	require.Equal(t, Default(), l.Settings)
	require.True(t, l.Found)
	require.Nil(t, l.Rules)
	require.NotNil(t, l.Roots.Pool)
	require.Empty(t, l.Warnings)
}

// An editor may write a byte order mark in front of the settings.
func TestAByteOrderMarkIsNotASetting(t *testing.T) {
	l, err := load(t, "\ufeffmode = \"report\"\n")
	require.NoError(t, err)
	require.Equal(t, "report", string(l.Mode))
}

// A list in the file replaces the default and is not added to it.
func TestListsReplaceTheirDefaults(t *testing.T) {
	l, err := load(t, "[server]\nlisten = [\"unix:/run/x\"]\n[dns]\nself_test = [\"example.\"]\n")
	require.NoError(t, err)
	require.Equal(t, []string{"unix:/run/x"}, l.Server.Listen)
	require.Equal(t, []string{"example."}, l.DNS.SelfTest)
}

// Every field of the structs is in the table and every row of the table is a field.
func TestTableAndStructsAreTheSame(t *testing.T) {
	defaults := Default()
	fields := map[any]bool{}
	var collect func(reflect.Value)
	collect = func(s reflect.Value) {
		for _, f := range s.Fields() {
			if f.Kind() == reflect.Struct {
				collect(f)
			} else {
				fields[f.Addr().Interface()] = true
			}
		}
	}
	collect(reflect.ValueOf(&defaults).Elem())
	paths := map[string]bool{}
	for _, table := range defaults.Tables() {
		require.NotEmpty(t, table.Doc, table.Name)
		for _, r := range table.Rows {
			field := r.value.Addr().Interface()
			require.True(t, fields[field], r.path)
			delete(fields, field)
			require.False(t, paths[r.path], r.path)
			paths[r.path] = true
			require.NotEmpty(t, r.Doc, r.Key)
			require.NotEmpty(t, r.Type, r.Key)
			require.NotEmpty(t, r.Default(), r.Key)
		}
	}
	require.Empty(t, fields)
}

func TestShownSettingsReadBack(t *testing.T) {
	const text = `mode = "report"
[server]
listen = ["127.0.0.1:1", "unix:/run/a \"b\\c"]
[port26]
exclude_domains = ["example.com", "example.net"]
`
	l, err := load(t, text)
	require.NoError(t, err)
	again, err := Read("standard input", strings.NewReader(l.TOML()))
	require.NoError(t, err, "the default overrides file need not exist")
	require.Equal(t, l.Settings, again.Settings)

	j, err := json.Marshal(l.Settings)
	require.NoError(t, err)
	var fromJSON, fromTOML map[string]any
	require.NoError(t, json.Unmarshal(j, &fromJSON))
	require.NoError(t, toml.Unmarshal([]byte(l.TOML()), &fromTOML))
	asJSON, err := json.Marshal(fromTOML)
	require.NoError(t, err)
	require.JSONEq(t, string(asJSON), string(j))
	require.Equal(t, "report", fromJSON["mode"])
}

func TestPackagedFileIsShortAndSetsNothing(t *testing.T) {
	packaged, err := os.ReadFile("../../../../packaging/policyd.toml")
	require.NoError(t, err)
	require.Equal(t, 6, strings.Count(string(packaged), "\n"))
	require.Contains(t, string(packaged), "policyd.toml(5)")
	require.Contains(t, string(packaged), "/usr/share/doc/policyd/examples/policyd.toml")
	l, err := load(t, string(packaged))
	require.NoError(t, err)
	require.Equal(t, Default(), l.Settings)
	l, err = load(t, string(packaged)+"[metrics]\nlisten = \"127.0.0.1:9526\"\n")
	require.NoError(t, err, "a table can be appended")
	require.Equal(t, "127.0.0.1:9526", l.Metrics.Listen)
}

// annotated returns the annotated file: every setting with its documentation and its default, all commented out.
func annotated() string {
	var b strings.Builder
	comment := func(words string) {
		var lines strings.Builder
		text.Wrap(&lines, "# ", words)
		b.WriteString(strings.ReplaceAll(lines.String(), "\n  ", "\n# "))
	}
	defaults := Default()
	for _, t := range defaults.Tables() {
		if t.Name != "" {
			b.WriteString("\n[" + t.Name + "]\n")
		}
		comment(t.Doc)
		for _, r := range t.Rows {
			b.WriteString("\n")
			comment(r.Doc)
			comment("Takes: " + r.Type)
			b.WriteString("#" + r.Key + " = " + r.Default() + "\n")
		}
	}
	return b.String()
}

// The annotated file is generated: go test ./cmd/policyd/internal/settings -update.
func TestAnnotatedFile(t *testing.T) {
	sample := annotated()
	const path = "../../../../docs/examples/policyd.toml"
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(sample), 0o644))
	}
	golden, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(golden), sample, "docs/examples/policyd.toml differs from the table: run with -update")

	l, err := load(t, sample)
	require.NoError(t, err)
	require.Equal(t, Default(), l.Settings)

	// With every setting uncommented, the file still means the same.
	settings := regexp.MustCompile(`(?m)^#([a-z0-9_]+ = )`).ReplaceAllString(sample, "$1")
	l = &Loaded{Path: path}
	_, err = l.check([]byte(settings), nil)
	require.NoError(t, err)
	require.Equal(t, Default(), l.Settings)
	require.NotRegexp(t, `(?m) $`, sample, "a space at the end of a line")
	for line := range strings.Lines(sample) {
		require.LessOrEqual(t, len(strings.TrimRight(line, "\n")), 90, line)
	}
}

func TestMissingFile(t *testing.T) {
	_, err := Load(filepath.Join(t.TempDir(), "none.toml"))
	bad, ok := errors.AsType[*Error](err)
	require.True(t, ok)
	require.Contains(t, bad.Error(), "none.toml: the settings cannot be read: no such file or directory")
}

func TestOverridesAndRoots(t *testing.T) {
	dir := t.TempDir()
	overrides, ca := filepath.Join(dir, "overrides"), filepath.Join(dir, "ca.pem")
	require.NoError(t, os.WriteFile(overrides, []byte("example.com ignore\n"), 0o600))
	pem, err := os.ReadFile("testdata/ca.pem")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(ca, pem, 0o600))
	l, err := load(t, "overrides = \""+overrides+"\"\n[tls]\nca_file = \""+ca+"\"\n")
	require.NoError(t, err)
	require.Len(t, l.Rules, 1)
	require.NotNil(t, l.Roots.Pool)
}

func TestWarnings(t *testing.T) {
	tests := []struct{ name, text, warning string }{
		{"mode off", `mode = "off"`, "every lookup is answered NOTFOUND"},
		{"trust in a server elsewhere", "[dns]\ntrust_ad = \"always\"\nservers = [\"192.0.2.1\"]", "forge"},
		{"listening to all", "[server]\nlisten = [\":2526\"]", "other machines"},
		{"questions to all", "[http]\nlisten = \":2527\"", "forge answers"},
		{"metrics to all", "[metrics]\nlisten = \"0.0.0.0:9526\"", "other machines"},
		{"port 26 always", "[port26]\nmode = \"always\"", "bounces"},
		{"special addresses", "[port26]\nprobe_special_addresses = true", "remote senders"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l, err := load(t, tt.text)
			require.NoError(t, err)
			require.Len(t, l.Warnings, 1)
			require.Contains(t, l.Warnings[0], tt.warning)
		})
	}
	l, err := load(t, "[dns]\ntrust_ad = \"always\"\nservers = [\"tls://a.example@192.0.2.1\", \"::1\"]")
	require.NoError(t, err)
	require.Empty(t, l.Warnings)
}

// Whatever the file contains, it is read or the error is an *Error with a position.
func FuzzLoad(f *testing.F) {
	f.Add("mode = \"report\"\n[server]\nlisten = [\"a:1\"]")
	f.Add("server = {listen = [1]}\n")
	f.Add("port26.port = 99999999999999999999999")
	f.Add("[[server]]\n")
	f.Add("mode = '''\nx'''")
	f.Add(contract)
	f.Fuzz(func(t *testing.T, text string) {
		l := &Loaded{Path: "f", Settings: Default()}
		_, _ = l.check([]byte(text), nil)
		for _, p := range l.Mistakes {
			if p.File != l.Path {
				continue
			}
			require.NotEmpty(t, p.Text)
			require.Positive(t, p.Line, "%s", p.Text)
			require.NotContains(t, p.String(), "\x1b")
		}
	})
}

func TestLoopbackIsAnotherHostOnlyWhereItIsProbed(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"probe", "always", "off"} {
		for _, special := range []bool{true, false} {
			s := Default()
			s.Port26.Mode, s.Port26.ProbeSpecialAddresses = mode, special
			l := Loaded{Settings: s}
			require.Equal(t, mode == "probe" && special, l.Site(slog.New(slog.DiscardHandler)).LoopbackProbed, "%s %v", mode, special)
		}
	}
}

func TestTheFleetKeysAreReadAndKeptPrivate(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) string {
		file := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(file, []byte(text), mode))
		require.NoError(t, os.Chmod(file, mode))
		return file
	}
	now, before := fleet.NewKey(), fleet.NewKey()
	settingsFile := func(keyFile string) string {
		return write("policyd.toml", fmt.Sprintf("[fleet]\nurl = \"redis://user:secret@host\"\nprevious_key_file = %q\nkey_file = %q\n",
			write("old", before.Text(), 0o600), keyFile), 0o600)
	}
	l, err := Load(settingsFile(write("key", now.Text()+"\n", 0o640)))
	require.NoError(t, err)
	require.Equal(t, []fleet.Key{now, before}, l.FleetKeys)
	require.Contains(t, l.TOML(), "secret")
	require.NotContains(t, l.Redacted().TOML(), "secret")
	for _, bad := range []struct{ text, says string }{{now.Text(), "every user"}, {"secret", "not a site key"}} {
		_, err = Load(settingsFile(write("key", bad.text, 0o644)))
		require.ErrorContains(t, err, bad.says)
		require.NotContains(t, err.Error(), now.Text())
	}
}

//go:build e2e

// Package source tests what is built from the source: the files of a release, the Debian package and the Fedora spec.
// Root only: the Debian package is built in a clean tree of Debian sid.
package source

import (
	"archive/tar"
	"compress/gzip"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const top = "../.."

// command returns a command that runs in dir. It sees no settings of this machine's git and not the flags of the go command
// that runs the test.
func command(t *testing.T, dir, name string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin", "GIT_CONFIG_GLOBAL=/dev/null",
		"GIT_AUTHOR_NAME=test", "GIT_AUTHOR_EMAIL=test@example.com", "GIT_AUTHOR_DATE=@1700000000 +0000",
		"GIT_COMMITTER_NAME=test", "GIT_COMMITTER_EMAIL=test@example.com", "GIT_COMMITTER_DATE=@1700000000 +0000")
	return cmd
}

// run runs a command in dir and returns what it prints. It must succeed.
func run(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	out, err := command(t, dir, name, args...).CombinedOutput()
	require.NoError(t, err, "%s %s\n%s", name, strings.Join(args, " "), tail(string(out)))
	return string(out)
}

// tail returns the end of a long text. If tests have failed in it, what they printed follows.
func tail(text string) string {
	const most, before = 20_000, 50
	end := text[max(0, len(text)-most):]
	all := strings.Split(text, "\n")
	for i, line := range all {
		if strings.HasPrefix(line, "--- FAIL: ") || strings.HasPrefix(line, "panic: ") {
			end += "\n...\n" + strings.Join(all[max(0, i-before):min(i+before, len(all))], "\n")
		}
	}
	return end
}

// clone makes a clone of this repository, with the changes that are not committed yet, and tags it as version 1.0.0.
func clone(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "clone")
	run(t, top, "git", "-c", "safe.directory=*", "clone", "-q", ".", dir)
	patch, err := command(t, top, "git", "diff", "--binary", "HEAD").Output()
	require.NoError(t, err)
	if len(patch) > 0 {
		file := filepath.Join(t.TempDir(), "patch")
		require.NoError(t, os.WriteFile(file, patch, 0o600))
		run(t, dir, "git", "apply", "--index", file)
		run(t, dir, "git", "commit", "-q", "-m", "not committed yet")
	}
	run(t, dir, "git", "tag", "-f", "v1.0.0")
	return dir
}

// TestRelease makes a release twice, and from its files what distributions make.
func TestRelease(t *testing.T) {
	one, two := clone(t), clone(t)
	release := filepath.Join(one, "dist/release")
	archive := filepath.Join(release, "policyd-1.0.0.tar.gz")

	step(t, "a commit without a tag, or with changes, is refused", func(t *testing.T) {
		refused := func(reason string) {
			out, err := command(t, one, "packaging/release").CombinedOutput()
			require.Error(t, err)
			require.Contains(t, string(out), reason)
		}
		require.NoError(t, os.WriteFile(filepath.Join(one, "new"), nil, 0o600))
		refused("has changes")
		require.NoError(t, os.Remove(filepath.Join(one, "new")))
		run(t, one, "git", "tag", "-d", "v1.0.0")
		refused("no version tag")
		run(t, one, "git", "tag", "v1.0.0")
	})

	step(t, "two clones give the same files", func(t *testing.T) {
		t.Log(run(t, one, "make", "release"))
		t.Setenv("TZ", "Pacific/Auckland")
		run(t, two, "sh", "-c", "umask 077; make release")
		sums := read(t, filepath.Join(release, "SHA256SUMS"))
		require.Equal(t, sums, read(t, filepath.Join(two, "dist/release/SHA256SUMS")))
		run(t, release, "sha256sum", "--check", "--strict", "SHA256SUMS")
		for _, name := range []string{
			"policyd-1.0.0.tar.gz", "policyd-1.0.0.cdx.json", "policyd-1.0.0-linux-amd64", "policyd-1.0.0-linux-arm64",
			"policyd-1.0.0-freebsd-amd64", "policyd-1.0.0-openbsd-amd64", "policyd-1.0.0-darwin-arm64", "policyd_1.0.0_amd64.deb",
			"policyd_1.0.0_arm64.deb", "policyd-1.0.0-1.x86_64.rpm", "policyd-1.0.0-1.aarch64.rpm", "policyd-1.0.0-image.tar",
			"policyd-1.0.0-image-amd64.tar", "policyd-1.0.0-image-arm64.tar",
		} {
			require.Contains(t, sums, "  "+name+"\n")
		}
	})

	step(t, "the SBOM has the modules of the program", func(t *testing.T) {
		var bom struct {
			Components []struct{ Name, Version string }
		}
		require.NoError(t, json.Unmarshal([]byte(read(t, filepath.Join(release, "policyd-1.0.0.cdx.json"))), &bom))
		listed := map[string]string{}
		for _, c := range bom.Components {
			listed[c.Name] = c.Version
		}
		info, err := buildinfo.ReadFile(filepath.Join(release, "policyd-1.0.0-linux-amd64"))
		require.NoError(t, err)
		require.NotEmpty(t, info.Deps)
		for _, m := range info.Deps {
			require.Equal(t, m.Version, listed[m.Path], m.Path)
		}
		require.Equal(t, info.GoVersion, listed["std"])
	})

	unpacked := filepath.Join(t.TempDir(), "policyd-1.0.0")
	step(t, "the source archive builds without a network and knows its version", func(t *testing.T) {
		requireUniform(t, archive)
		run(t, filepath.Dir(unpacked), "tar", "-xzf", archive)
		for _, setting := range []string{"GOPROXY=off", "GOTOOLCHAIN=local", "GOMODCACHE=" + t.TempDir(), "GOFLAGS=-mod=vendor"} {
			name, value, _ := strings.Cut(setting, "=")
			t.Setenv(name, value)
		}
		run(t, unpacked, "make", "build", "man")
		require.Contains(t, run(t, unpacked, "bin/policyd", "version"), "policyd v1.0.0\n")
	})

	step(t, "the spec of Fedora gives the same package", func(t *testing.T) { fedora(t, release) })
	step(t, "the source package of Debian builds in sid and gives the same package", func(t *testing.T) { debian(t, one, release) })
}

// step is a part of the test on which the next parts depend.
func step(t *testing.T, name string, part func(*testing.T)) {
	t.Helper()
	if !t.Run(name, part) {
		t.FailNow()
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	return string(text)
}

// requireUniform checks that no entry of an archive depends on the user who made it.
func requireUniform(t *testing.T, archive string) {
	t.Helper()
	f, err := os.Open(archive)
	require.NoError(t, err)
	defer func() { _ = f.Close() }()
	z, err := gzip.NewReader(f)
	require.NoError(t, err)
	vendored := false
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		require.Zero(t, h.Uid+h.Gid, h.Name)
		require.Contains(t, []int64{0o755, 0o644, 0o777}, h.Mode&0o7777, h.Name)
		vendored = vendored || strings.HasSuffix(h.Name, "/vendor/modules.txt")
	}
	require.True(t, vendored)
}

// fedora builds the RPM package as Fedora does, as far as Debian's rpm can, and compares it with that of the release.
func fedora(t *testing.T, release string) {
	build := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(build, "SOURCES"), 0o755))
	run(t, build, "cp", filepath.Join(release, "policyd-1.0.0.tar.gz"), "SOURCES")
	spec, err := filepath.Abs("../fedora/policyd.spec")
	require.NoError(t, err)
	require.Contains(t, run(t, build, "rpmspec", "-P", spec), "Version:        1.0.0\n")
	// The tests of the source have run before; the Makefile sets what Fedora's macros for Go would.
	run(t, build, "rpmbuild", "-bb", "--nodeps", "--nocheck", "--define", "_topdir "+build, spec)
	built, err := filepath.Glob(filepath.Join(build, "RPMS/*/policyd-1.0.0-1*.rpm"))
	require.NoError(t, err)
	require.Len(t, built, 1)
	ours := filepath.Join(release, map[string]string{"amd64": "policyd-1.0.0-1.x86_64.rpm", "arm64": "policyd-1.0.0-1.aarch64.rpm"}[runtime.GOARCH])
	for _, query := range [][]string{{"-ql"}, {"-qc"}, {"-q", "--recommends"}} {
		want, got := entries(run(t, build, "rpm", append(query, "-p", ours)...)), entries(run(t, build, "rpm", append(query, "-p", built[0])...))
		require.Equal(t, want, got, "rpm %v", query)
	}
	scripts := func(file string) string {
		return regexp.MustCompile(`\n+`).ReplaceAllString(run(t, build, "rpm", "-q", "--scripts", "-p", file), "\n")
	}
	require.Equal(t, scripts(ours), scripts(built[0]))
}

// lines returns the lines of a text, sorted.
func lines(text string) []string {
	all := strings.Split(strings.TrimSpace(text), "\n")
	slices.Sort(all)
	return all
}

// entries returns the lines of rpm's answer without the paths that depend on the version of rpm.
func entries(text string) []string {
	return slices.DeleteFunc(lines(text), func(l string) bool {
		return strings.HasPrefix(l, "/usr/lib/.build-id") || strings.HasPrefix(l, "/usr/share/licenses/policyd")
	})
}

// debian builds the package of Debian from a clone, and compares it with that of the release.
func debian(t *testing.T, clone, release string) {
	tree := newSid(t, clone)
	run(t, clone, "git", "archive", "--prefix=policyd-1.0.0/", "-o", filepath.Join(tree.build, "policyd_1.0.0.orig.tar.gz"), "HEAD")
	run(t, tree.build, "tar", "-xzf", "policyd_1.0.0.orig.tar.gz")
	run(t, tree.build, "chown", "-R", "1000:1000", ".")

	step(t, "build, with the unit tests and the versions of the libraries in sid", func(t *testing.T) {
		tree.sh(t, "cd /build/policyd-1.0.0 && exec setpriv --reuid=1000 --regid=1000 --clear-groups env HOME=/nonexistent "+
			"dpkg-buildpackage -us -uc")
	})
	deb := filepath.Join(tree.build, "policyd_1.0.0-1_"+runtime.GOARCH+".deb")
	step(t, "lintian finds nothing", func(t *testing.T) {
		require.Empty(t, tree.sh(t, "cd /build && exec setpriv --reuid=1000 --regid=1000 --clear-groups lintian --display-info --pedantic *.changes"))
	})
	step(t, "the program has the defaults of the Go version in go.mod", func(t *testing.T) {
		root := t.TempDir()
		run(t, root, "dpkg-deb", "-x", deb, ".")
		info, err := buildinfo.ReadFile(filepath.Join(root, "usr/bin/policyd"))
		require.NoError(t, err)
		for _, s := range info.Settings {
			if s.Key == "DefaultGODEBUG" {
				require.NotRegexp(t, "tls|httpmux", s.Value)
			}
		}
	})
	step(t, "the same files, settings, scripts and triggers as in the package of the release", func(t *testing.T) {
		ours, theirs := openDeb(t, filepath.Join(release, "policyd_1.0.0_"+runtime.GOARCH+".deb")), openDeb(t, deb)
		delete(ours.files, "usr/share/doc/policyd/changelog.gz")
		delete(theirs.files, "usr/share/doc/policyd/changelog.Debian.gz")
		require.Equal(t, slices.Sorted(maps.Keys(ours.files)), slices.Sorted(maps.Keys(theirs.files)))
		require.Equal(t, ours.files, theirs.files, "owners and modes")
		require.Equal(t, ours.control, theirs.control)
	})
	step(t, "autopkgtest: the mail cases with the installed package", func(t *testing.T) {
		out := tree.sh(t, "dpkg -i /build/policyd_1.0.0-1_*.deb >/dev/null 2>&1\n"+
			"cd /build/policyd-1.0.0 && patch -s -p1 <debian/patches/go-redis-9.17.patch\n"+
			"mkdir /build/autopkgtest && AUTOPKGTEST_TMP=/build/autopkgtest GOCACHE=/build/policyd-1.0.0/_build/go-build debian/tests/end-to-end")
		require.Contains(t, out, "ok   ")
	})
}

// deb has the properties in which two packages are compared.
type deb struct {
	files   map[string]string // the mode and the owner
	control map[string]string // fields and scripts
}

func openDeb(t *testing.T, file string) deb {
	t.Helper()
	d := deb{files: map[string]string{}, control: map[string]string{}}
	for _, line := range lines(run(t, ".", "dpkg-deb", "-c", file)) {
		f := strings.Fields(line)
		name := strings.TrimPrefix(f[5], "./")
		if name == "" || strings.HasSuffix(name, "/") || strings.HasPrefix(name, "usr/share/lintian/") {
			continue
		}
		if f[0][0] == 'l' {
			f[0] = "link" // its mode means nothing
		}
		d.files[name] = f[0] + " " + f[1]
	}
	for _, field := range []string{"Depends", "Recommends", "Section", "Priority", "Homepage", "Description", "Architecture"} {
		d.control[field] = strings.Join(slices.Sorted(slices.Values(strings.Split(strings.TrimSpace(run(t, ".", "dpkg-deb", "-f", file, field)), ", "))), ", ")
	}
	script := t.TempDir()
	run(t, script, "dpkg-deb", "-e", file, ".")
	for _, name := range []string{"preinst", "postinst", "prerm", "postrm", "conffiles", "triggers"} {
		text := strings.ReplaceAll(read(t, filepath.Join(script, name)), "#DEBHELPER#", "")
		// Comments and the order of files do not matter.
		d.control[name] = strings.Join(slices.DeleteFunc(lines(text), func(l string) bool { return l == "" || strings.HasPrefix(l, "# ") }), "\n")
	}
	return d
}

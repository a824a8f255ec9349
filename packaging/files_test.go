//go:build e2e

package packaging_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// build makes a package from the top directory and returns its path.
func build(t *testing.T, kind, version string) string {
	t.Helper()
	return buildIn(t, "..", kind, version)
}

func buildIn(t *testing.T, dir, kind, version string) string {
	t.Helper()
	run(t, "make", "-C", mustAbs(t, dir), "NFPM="+mustAbs(t, "../bin/nfpm"), "VERSION="+version, kind)
	found, err := filepath.Glob(filepath.Join(dir, "dist", "policyd*."+kind))
	require.NoError(t, err)
	require.Len(t, found, 1)
	kept := filepath.Join(t.TempDir(), filepath.Base(found[0]))
	run(t, "cp", mustAbs(t, found[0]), kept)
	return kept
}

func mustAbs(t *testing.T, path string) string {
	t.Helper()
	abs, err := filepath.Abs(path)
	require.NoError(t, err)
	return abs
}

// contents lists the files of every package, except the documents.
func contents() []string {
	return []string{
		"/etc/policyd/overrides",
		"/etc/policyd/policyd.toml",
		"/usr/lib/systemd/system/policyd.service",
		"/usr/lib/systemd/system/policyd.socket",
		"/usr/lib/sysusers.d/policyd.conf",
		"/usr/lib/tmpfiles.d/policyd.conf",
		"/usr/bin/policyd",
		"/usr/share/bash-completion/completions/policyd",
		"/usr/share/doc/policyd/check.svg",
		"/usr/share/doc/policyd/dashboard.png",
		"/usr/share/doc/policyd/doctor.svg",
		"/usr/share/doc/policyd/examples/main.cf.example",
		"/usr/share/doc/policyd/examples/master.cf.example",
		"/usr/share/doc/policyd/examples/policyd.json",
		"/usr/share/doc/policyd/examples/policyd.rules.yml",
		"/usr/share/doc/policyd/examples/policyd.toml",
		"/usr/share/doc/policyd/operator-guide.md",
		"/usr/share/fish/vendor_completions.d/policyd.fish",
		"/usr/share/man/man1/policyd-cache.1.gz",
		"/usr/share/man/man1/policyd-check.1.gz",
		"/usr/share/man/man1/policyd-doctor.1.gz",
		"/usr/share/man/man1/policyd-postfix-config.1.gz",
		"/usr/share/man/man1/policyd-query.1.gz",
		"/usr/share/man/man1/policyd-status.1.gz",
		"/usr/share/man/man5/policyd.toml.5.gz",
		"/usr/share/man/man8/policyd.8.gz",
	}
}

// requireLinks follows the relative links of all documents below a directory.
func requireLinks(t *testing.T, dir string) {
	t.Helper()
	link := regexp.MustCompile(`\]\(([^)#:]+)(?:#[^)]*)?\)`)
	followed := 0
	require.NoError(t, filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".md" {
			return err
		}
		text, err := os.ReadFile(path)
		for _, m := range link.FindAllStringSubmatch(string(text), -1) {
			require.FileExists(t, filepath.Join(filepath.Dir(path), m[1]), "%s has a link to %s", path, m[1])
			followed++
		}
		return err
	}))
	require.GreaterOrEqual(t, followed, 15)
}

func TestPackages(t *testing.T) {
	deb, rpm := build(t, "deb", "v1.0.0"), build(t, "rpm", "v1.0.0")

	t.Run("everything is in them", func(t *testing.T) {
		inDeb, inRPM := run(t, "dpkg-deb", "-c", deb), run(t, "rpm", "-qlp", rpm)
		t.Log("\n" + inDeb)
		for _, file := range append(contents(), "/usr/share/zsh/vendor-completions/_policyd", "/usr/share/doc/policyd/copyright") {
			require.Contains(t, strings.Fields(inDeb), "."+file)
		}
		for _, file := range append(contents(), "/usr/share/zsh/site-functions/_policyd", "/usr/share/licenses/policyd/LICENSE") {
			require.Contains(t, strings.Fields(inRPM), file)
		}
	})

	t.Run("every link in the documents leads to something that is in them too", func(t *testing.T) {
		dir := t.TempDir()
		run(t, "dpkg-deb", "-x", deb, dir)
		requireLinks(t, dir+"/usr/share/doc/policyd")
	})

	t.Run("the settings are the operator's, and Postfix and a resolver recommended", func(t *testing.T) {
		conffiles := []string{"/etc/policyd/overrides", "/etc/policyd/policyd.toml"}
		require.ElementsMatch(t, conffiles, strings.Fields(run(t, "dpkg-deb", "-I", deb, "conffiles")))
		require.ElementsMatch(t, conffiles, strings.Fields(run(t, "rpm", "-qcp", rpm)))
		require.Equal(t, "postfix, unbound, ca-certificates\n", run(t, "dpkg-deb", "-f", deb, "Recommends"))
		require.Equal(t, "postfix\nunbound\nca-certificates\n", run(t, "rpm", "-qp", "--recommends", rpm))
	})

	t.Run("lintian has no error and no warning", func(t *testing.T) {
		t.Log("\n" + run(t, "lintian", "--allow-root", "--fail-on", "error,warning", "--display-info", deb))
	})

	t.Run("two builds from the same commit are the same, wherever and when they are made", func(t *testing.T) {
		elsewhere := filepath.Join(t.TempDir(), "elsewhere")
		require.NoError(t, os.Mkdir(elsewhere, 0o700))
		run(t, "sh", "-c", "tar --exclude=./bin --exclude=./dist -cf - . | tar -xf - -C "+elsewhere)
		run(t, "sh", "-c", "find "+elsewhere+" -name .git -prune -o -type f -exec touch -d 2001-01-01 {} + -exec chmod g+w {} +")
		t.Setenv("TZ", "Pacific/Auckland")
		run(t, "cmp", deb, buildIn(t, elsewhere, "deb", "v1.0.0"))
		run(t, "cmp", rpm, buildIn(t, elsewhere, "rpm", "v1.0.0"))
	})
}

// Every page renders in 80 columns without a warning.
func TestManualPages(t *testing.T) {
	run(t, "make", "man")
	pages, err := filepath.Glob("../dist/man/man*/*")
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(pages), 5)
	for _, page := range pages {
		out := run(t, "sh", "-c", "MANWIDTH=80 MANROFFOPT= man --warnings -E UTF-8 -l -Tutf8 "+mustAbs(t, page)+" 2>&1 >/dev/null")
		require.Empty(t, out, page)
		text := run(t, "sh", "-c", "MANWIDTH=80 man -l -Tutf8 "+mustAbs(t, page)+" | col -bx")
		for line := range strings.Lines(text) {
			require.LessOrEqual(t, len([]rune(strings.TrimSpace(line))), 80, "%s: %s", page, line)
		}
		// The C locale has ASCII only.
		text = run(t, "sh", "-c", "LC_ALL=C MANWIDTH=80 man -l "+mustAbs(t, page)+" | col -bx")
		require.NotRegexp(t, `[^\x00-\x7f]`, text, page)
	}
}

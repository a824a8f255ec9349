//go:build e2e

package source

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// sid is a clean Debian sid in a directory, with what the package needs for its build and its tests. Nothing changes in it:
// each script works on a layer of its own, with /build as the only directory that stays.
type sid struct{ dir, build string }

// newSid makes the tree, or uses that of an earlier test if debian/control has not changed. Remove dist/.sid for a new one.
// The name begins with a dot so that the go command does not look for packages in it.
func newSid(t *testing.T, clone string) sid {
	t.Helper()
	dir, err := filepath.Abs(top + "/dist/.sid")
	require.NoError(t, err)
	build := t.TempDir()
	// The user that runs the build must be able to reach it.
	for d := build; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
		require.NoError(t, os.Chmod(d, 0o755))
	}
	s := sid{dir: dir, build: build}
	complete := dir + "/complete"
	want := read(t, filepath.Join(clone, "debian/control")) + read(t, filepath.Join(clone, "debian/tests/control"))
	if have, err := os.ReadFile(complete); err == nil && string(have) == want {
		return s
	}
	require.NoError(t, os.RemoveAll(dir))
	require.NoError(t, os.MkdirAll(filepath.Dir(dir), 0o755))
	// A mirror that is out of date is used if this machine uses it.
	valid := strings.TrimSpace(run(t, top, "apt-config", "dump", "Acquire::Check-Valid-Until"))
	if valid == "" {
		valid = `Acquire::Check-Valid-Until "true";`
	}
	run(t, clone, "mmdebstrap", "--quiet", "--variant=minbase", "--aptopt="+valid, "--dpkgopt=force-unsafe-io",
		"--include=build-essential,lintian,postfix,unbound,iproute2,bind9-utils",
		"--customize-hook=mkdir -p \"$1/root/source/debian\"", "--customize-hook=copy-in debian/control /root/source/debian",
		`--customize-hook=chroot "$1" apt-get build-dep -qq -y --no-install-recommends /root/source`,
		"sid", dir)
	require.NoError(t, os.WriteFile(complete, []byte(want), 0o600))
	return s
}

// sh runs a shell script in the tree and returns what it prints. It has processes of its own, and no network except loopback.
func (s sid) sh(t *testing.T, script string) string {
	t.Helper()
	const enter = `
mount -t tmpfs tmpfs "$3"
mkdir "$3/upper" "$3/work" "$3/root"
mount -t overlay overlay -o "lowerdir=$1,upperdir=$3/upper,workdir=$3/work" "$3/root"
cd "$3/root"
mkdir build
mount --bind "$2" build
mount -t proc proc proc
mount -t sysfs sysfs sys
mount --rbind /dev dev
ip link set lo up
exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive chroot . /bin/sh -euc "$4"`
	cmd := exec.CommandContext(t.Context(), "unshare", "--mount", "--pid", "--net", "--uts", "--ipc", "--fork", "--kill-child",
		"sh", "-euc", enter, "sh", s.dir, s.build, t.TempDir(), script)
	cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s\n%s", script, tail(string(out)))
	return string(out)
}

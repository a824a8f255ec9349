//go:build e2e

// Package container tests the container image and the examples beside it, without a container engine.
package container

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// image is an archive that was built, by the paths in it.
type image map[string][]byte

// build makes the images and returns the paths of the archives by architecture, "" for all of them.
func build(t *testing.T) map[string]string {
	t.Helper()
	cmd := exec.Command("./build")
	cmd.Env = append(os.Environ(), "VERSION=v0.0.0-test")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	dist, err := filepath.Abs("../../dist")
	require.NoError(t, err)
	return map[string]string{
		"amd64": filepath.Join(dist, "policyd-image-amd64.tar"), "arm64": filepath.Join(dist, "policyd-image-arm64.tar"),
		"": filepath.Join(dist, "policyd-image.tar"),
	}
}

func read(t *testing.T, file string) image {
	t.Helper()
	f, err := os.Open(file)
	require.NoError(t, err)
	defer func() { _ = f.Close() }()
	i := image{}
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return i
		}
		require.NoError(t, err)
		i[h.Name], err = io.ReadAll(r)
		require.NoError(t, err)
	}
}

// descriptor names a blob.
type descriptor struct {
	MediaType, Digest string
	Size              int
	Platform          struct{ Architecture, OS string }
}

// blob returns a blob after checking its digest and size.
func (i image) blob(t *testing.T, d descriptor) []byte {
	t.Helper()
	b := i["blobs/"+strings.Replace(d.Digest, ":", "/", 1)]
	sum := sha256.Sum256(b)
	require.Equal(t, d.Digest, "sha256:"+hex.EncodeToString(sum[:]))
	require.Len(t, b, d.Size)
	return b
}

func decode[T any](t *testing.T, b []byte) (v T) {
	t.Helper()
	require.NoError(t, json.Unmarshal(b, &v))
	return v
}

type index struct{ Manifests []descriptor }

// config is what the tests need of the configuration of an image.
type config struct {
	Architecture string
	Config       struct {
		User            string
		Env             []string
		Entrypoint, Cmd []string
		Volumes         map[string]struct{}
		Healthcheck     struct{ Test []string }
	}
	RootFS struct {
		DiffIDs []string `json:"diff_ids"`
	} `json:"rootfs"`
}

// open returns the configuration and the layer of the image that a manifest describes.
func (i image) open(t *testing.T, d descriptor) (c config, layer []byte) {
	t.Helper()
	m := decode[struct {
		Config descriptor
		Layers []descriptor
	}](t, i.blob(t, d))
	require.Len(t, m.Layers, 1)
	c = decode[config](t, i.blob(t, m.Config))
	r, err := gzip.NewReader(bytes.NewReader(i.blob(t, m.Layers[0])))
	require.NoError(t, err)
	layer, err = io.ReadAll(r)
	require.NoError(t, err)
	sum := sha256.Sum256(layer)
	require.Equal(t, []string{"sha256:" + hex.EncodeToString(sum[:])}, c.RootFS.DiffIDs)
	return c, layer
}

func TestTheImageIsSmallReproducibleAndForTwoArchitectures(t *testing.T) {
	files := build(t)
	all := read(t, files[""])
	list := decode[index](t, all.blob(t, decode[index](t, all["index.json"]).Manifests[0]))
	require.Len(t, list.Manifests, 2)
	for n, arch := range []string{"amd64", "arm64"} {
		require.Equal(t, arch, list.Manifests[n].Platform.Architecture)
		c, layer := all.open(t, list.Manifests[n])
		require.Equal(t, arch, c.Architecture)
		require.Less(t, len(layer), 25<<20)
		one := read(t, files[arch])
		alone, same := one.open(t, decode[index](t, one["index.json"]).Manifests[0])
		require.Equal(t, c, alone)
		require.Equal(t, layer, same)
		require.Contains(t, string(one["manifest.json"]), "localhost/policyd:v0.0.0-test")
	}
	before := map[string][]byte{}
	for arch, file := range files {
		b, err := os.ReadFile(file)
		require.NoError(t, err)
		before[arch] = b
	}
	for arch, file := range build(t) {
		b, err := os.ReadFile(file)
		require.NoError(t, err)
		require.True(t, bytes.Equal(before[arch], b), "%s differs between two builds", file)
	}
}

// unpack writes a layer to a directory, as an engine does, and returns the directory.
func unpack(t *testing.T, layer []byte) string {
	t.Helper()
	root := t.TempDir()
	for r := tar.NewReader(bytes.NewReader(layer)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return root
		}
		require.NoError(t, err)
		at := filepath.Join(root, h.Name)
		if h.Typeflag == tar.TypeDir {
			require.NoError(t, os.Mkdir(at, 0o755))
		} else {
			b, err := io.ReadAll(r)
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(at, b, 0o600))
		}
		require.NoError(t, os.Chown(at, h.Uid, h.Gid))
		require.NoError(t, os.Chmod(at, h.FileInfo().Mode()))
	}
}

// running is a container that the test makes: namespaces for mounts, processes and the network, a root file system that
// is read-only, no capabilities, and a user that is not in the image.
type running struct {
	log *os.File
	cmd *exec.Cmd
	pid string
}

// start runs the command of an image.
func start(t *testing.T, c config, root string, uid int) *running {
	t.Helper()
	volume := filepath.Join(root, "var/lib/policyd")
	log, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	require.NoError(t, err)
	script := fmt.Sprintf(`set -e
ip link set lo up
mount --bind %[1]s %[1]s
mount --bind %[2]s %[2]s
mount -o remount,ro,bind %[1]s
exec env -i %[3]s setpriv --clear-groups --no-new-privs --bounding-set -all,+sys_chroot,+setuid,+setgid \
	chroot --userspec=%[4]d:0 %[1]s %[5]s`, root, volume, strings.Join(c.Config.Env, " "), uid,
		strings.Join(append(c.Config.Entrypoint, c.Config.Cmd...), " "))
	// Find the tools of the host before the environment becomes that of the image.
	script = strings.Replace(script, "setpriv", "/usr/bin/setpriv", 1)
	script = strings.Replace(script, "\tchroot", "\t/usr/sbin/chroot", 1)
	cmd := exec.Command("unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "sh", "-c", script)
	cmd.Stderr, cmd.Stdout = log, log
	require.NoError(t, cmd.Start())
	r := &running{log: log, cmd: cmd}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Log(r.stderr(t))
		}
	})
	require.Eventually(t, func() bool {
		out, err := exec.Command("pgrep", "-P", fmt.Sprint(cmd.Process.Pid)).Output()
		r.pid = strings.TrimSpace(string(out))
		return err == nil && strings.Contains(r.stderr(t), "listening")
	}, time.Minute, 20*time.Millisecond, "%s", "the daemon does not start")
	return r
}

func (r *running) stderr(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(r.log.Name())
	require.NoError(t, err)
	return string(b)
}

// exec runs a command inside, as a health check does.
func (r *running) exec(root string, uid int, args ...string) (string, error) {
	cmd := exec.Command("nsenter", append([]string{"-t", r.pid, "-m", "-n", "chroot", fmt.Sprintf("--userspec=%d:0", uid), root}, args...)...)
	cmd.Env = []string{"PATH=/usr/bin:/usr/sbin:/bin"}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func TestTheImageRunsReadOnlyAsAnyUser(t *testing.T) {
	require.Equal(t, "linux", runtime.GOOS)
	require.Zero(t, os.Geteuid(), "namespaces need root")
	i := read(t, build(t)[runtime.GOARCH])
	c, layer := i.open(t, decode[index](t, i["index.json"]).Manifests[0])
	require.Equal(t, "2526:0", c.Config.User)
	require.Contains(t, c.Config.Volumes, "/var/lib/policyd")
	for _, uid := range []int{2526, 1234567} {
		t.Run(fmt.Sprint(uid), func(t *testing.T) {
			root := unpack(t, layer)
			r := start(t, c, root, uid)
			out, err := r.exec(root, uid, c.Config.Healthcheck.Test[1:]...)
			require.NoError(t, err, out)
			require.Contains(t, out, "policyd")
			out, err = r.exec(root, uid, "/usr/bin/policyd", "config", "check")
			require.NoError(t, err, out)
			require.FileExists(t, filepath.Join(root, "var/lib/policyd/admin.sock"))
			written, err := filepath.Glob(filepath.Join(root, "var/lib/policyd/*.db"))
			require.NoError(t, err)
			require.NotEmpty(t, written, "state is in the volume")
			require.NoError(t, r.cmd.Process.Signal(syscall.Signal(0)))
			require.NoError(t, exec.Command("kill", "-TERM", r.pid).Run())
			require.NoError(t, r.cmd.Wait(), "SIGTERM ends it in order")
			_, err = r.exec(root, uid, c.Config.Healthcheck.Test[1:]...)
			require.Error(t, err, "the health check notices that the daemon does not run")
		})
	}
}

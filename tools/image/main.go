// Command image writes an OCI image of policyd as one archive, without a container engine and without a base image
// (https://github.com/opencontainers/image-spec). The same binaries give the same archive, byte for byte: every time in
// it is that of the commit.
//
// The image holds the static binary, the root certificates of the Mozilla programme, a user, an empty configuration and
// the directories that policyd writes to. Load it with podman load, docker load or skopeo copy oci-archive:FILE.
package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/x509roots/fallback/bundle"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

// platform is the binary for an architecture.
type platform struct{ arch, binary string }

func run(args []string) error {
	var binaries []platform
	flags := flag.NewFlagSet("image", flag.ContinueOnError)
	add := func(binary string) error {
		arch, file, ok := strings.Cut(binary, "=")
		if !ok {
			return errors.New("expected ARCH=FILE")
		}
		binaries = append(binaries, platform{arch, file})
		return nil
	}
	flags.Func("binary", "`ARCH=FILE` of a static Linux binary; repeat it for each architecture", add)
	version := flags.String("version", "devel", "version in the labels and the name of the image")
	out := flags.String("out", "", "archive to write")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if len(binaries) == 0 || *out == "" {
		return errors.New("-binary and -out are required")
	}
	epoch, err := strconv.ParseInt(os.Getenv("SOURCE_DATE_EPOCH"), 10, 64)
	if err != nil {
		return errors.New("set SOURCE_DATE_EPOCH to the time of the commit, in seconds since 1970")
	}
	image := &layout{created: time.Unix(epoch, 0).UTC(), version: *version, blobs: map[string][]byte{}}
	for _, b := range binaries {
		if err := image.add(b); err != nil {
			return fmt.Errorf("%s: %w", b.arch, err)
		}
	}
	archive, err := image.archive()
	if err != nil {
		return err
	}
	return os.WriteFile(*out, archive, 0o644)
}

// The media types and the structures of the image specification.
const (
	indexType    = "application/vnd.oci.image.index.v1+json"
	manifestType = "application/vnd.oci.image.manifest.v1+json"
	configType   = "application/vnd.oci.image.config.v1+json"
	layerType    = "application/vnd.oci.image.layer.v1.tar+gzip"
)

type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int               `json:"size"`
	Platform    *target           `json:"platform,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

type target struct {
	Architecture string `json:"architecture"`
	OS           string `json:"os"`
}

type manifest struct {
	SchemaVersion int               `json:"schemaVersion"`
	MediaType     string            `json:"mediaType"`
	Config        descriptor        `json:"config"`
	Layers        []descriptor      `json:"layers"`
	Annotations   map[string]string `json:"annotations,omitempty"`
}

type index struct {
	SchemaVersion int          `json:"schemaVersion"`
	MediaType     string       `json:"mediaType"`
	Manifests     []descriptor `json:"manifests"`
}

type imageConfig struct {
	Created time.Time `json:"created"`
	target
	Config  runtime   `json:"config"`
	RootFS  rootFS    `json:"rootfs"`
	History []history `json:"history"`
}

type rootFS struct {
	Type    string   `json:"type"`
	DiffIDs []string `json:"diff_ids"`
}

type history struct {
	Created   time.Time `json:"created"`
	CreatedBy string    `json:"created_by"`
}

// runtime is how the image is run. Healthcheck is Docker's extension of the specification.
type runtime struct {
	User        string              `json:"User"`
	Env         []string            `json:"Env"`
	Entrypoint  []string            `json:"Entrypoint"`
	Cmd         []string            `json:"Cmd"`
	Volumes     map[string]struct{} `json:"Volumes"`
	WorkingDir  string              `json:"WorkingDir"`
	Labels      map[string]string   `json:"Labels"`
	StopSignal  string              `json:"StopSignal"`
	Healthcheck healthcheck         `json:"Healthcheck"`
}

type healthcheck struct {
	Test        []string      `json:"Test"`
	Interval    time.Duration `json:"Interval"`
	Timeout     time.Duration `json:"Timeout"`
	StartPeriod time.Duration `json:"StartPeriod"`
	Retries     int           `json:"Retries"`
}

// dockerImage is an entry of manifest.json, which docker save wrote before it knew the image specification.
type dockerImage struct {
	Config   string   `json:"Config"`
	RepoTags []string `json:"RepoTags"`
	Layers   []string `json:"Layers"`
}

// user is the user of the image. Its group is 0, so that the directories can be written by any other user that the
// engine chooses in the same group.
const user = 2526

// settings of the image: only the volume can be written when the root file system is read-only.
const settings = `# Settings of the image; see policyd.toml(5). Mount a file of your own over this one to change them, and keep
# the next lines.
[admin]
socket = "/var/lib/policyd/admin.sock"
`

// layout collects the blobs of an image layout.
type layout struct {
	created   time.Time
	version   string
	blobs     map[string][]byte
	order     []string
	manifests []descriptor

	config, packed string // digests of the architecture that was added last
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// blobPath returns the path of a blob in the archive.
func blobPath(digest string) string { return "blobs/" + strings.Replace(digest, ":", "/", 1) }

func (l *layout) blob(mediaType string, b []byte) descriptor {
	d := descriptor{MediaType: mediaType, Digest: digest(b), Size: len(b)}
	if _, there := l.blobs[d.Digest]; !there {
		l.blobs[d.Digest] = b
		l.order = append(l.order, d.Digest)
	}
	return d
}

func (l *layout) blobJSON(mediaType string, v any) (descriptor, error) {
	b, err := json.Marshal(v)
	return l.blob(mediaType, b), err
}

func (l *layout) labels() map[string]string {
	return map[string]string{
		"org.opencontainers.image.title":       "policyd",
		"org.opencontainers.image.description": "MX-prefix, DANE and MTA-STS policies for Postfix",
		"org.opencontainers.image.licenses":    "MIT",
		"org.opencontainers.image.version":     l.version,
		"org.opencontainers.image.created":     l.created.Format(time.RFC3339),
	}
}

// add adds the image of one architecture.
func (l *layout) add(p platform) error {
	binary, err := os.ReadFile(p.binary)
	if err != nil {
		return err
	}
	layer, err := l.layer(binary)
	if err != nil {
		return err
	}
	packed, err := pack(layer)
	if err != nil {
		return err
	}
	on := target{Architecture: p.arch, OS: "linux"}
	config, err := l.blobJSON(configType, imageConfig{
		Created: l.created, target: on,
		Config: runtime{
			User:       fmt.Sprintf("%d:0", user),
			Env:        []string{"PATH=/usr/bin", "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt"},
			Entrypoint: []string{"/usr/bin/policyd"}, Cmd: []string{"serve"},
			Volumes: map[string]struct{}{"/var/lib/policyd": {}}, WorkingDir: "/", Labels: l.labels(),
			StopSignal: "SIGTERM",
			Healthcheck: healthcheck{
				Test: []string{"CMD", "/usr/bin/policyd", "status"}, Retries: 3,
				Interval: 30 * time.Second, Timeout: 5 * time.Second, StartPeriod: 10 * time.Second,
			},
		},
		RootFS:  rootFS{Type: "layers", DiffIDs: []string{digest(layer)}},
		History: []history{{Created: l.created, CreatedBy: "policyd tools/image"}},
	})
	if err != nil {
		return err
	}
	packedLayer := l.blob(layerType, packed)
	l.config, l.packed = config.Digest, packedLayer.Digest
	d, err := l.blobJSON(manifestType, manifest{
		SchemaVersion: 2, MediaType: manifestType, Config: config, Layers: []descriptor{packedLayer},
		Annotations: l.labels(),
	})
	if err != nil {
		return err
	}
	d.Platform = &on
	l.manifests = append(l.manifests, d)
	return nil
}

// layer returns the file system as a tar archive.
func (l *layout) layer(binary []byte) ([]byte, error) {
	var roots bytes.Buffer
	for r := range bundle.Roots() {
		if err := pem.Encode(&roots, &pem.Block{Type: "CERTIFICATE", Bytes: r.Certificate}); err != nil {
			return nil, err
		}
	}
	entries := []entry{
		{name: "etc/", mode: 0o755},
		{name: "etc/group", mode: 0o644, body: []byte("root:x:0:\nnogroup:x:65534:\n")},
		{name: "etc/nsswitch.conf", mode: 0o644, body: []byte("hosts: files dns\n")},
		{name: "etc/passwd", mode: 0o644, body: fmt.Appendf(nil,
			"root:x:0:0:root:/:/sbin/nologin\npolicyd:x:%d:0:policyd:/var/lib/policyd:/sbin/nologin\n", user)},
		{name: "etc/policyd/", mode: 0o755},
		{name: "etc/policyd/policyd.toml", mode: 0o644, body: []byte(settings)},
		{name: "etc/ssl/", mode: 0o755},
		{name: "etc/ssl/certs/", mode: 0o755},
		{name: "etc/ssl/certs/ca-certificates.crt", mode: 0o644, body: roots.Bytes()},
		{name: "tmp/", mode: 0o1777},
		{name: "usr/", mode: 0o755},
		{name: "usr/bin/", mode: 0o755},
		{name: "usr/bin/policyd", mode: 0o755, body: binary},
		{name: "var/", mode: 0o755},
		{name: "var/lib/", mode: 0o755},
		{name: "var/lib/policyd/", mode: 0o770, uid: user},
	}
	return writeTar(entries, l.created)
}

// entry is a file or, with a slash at the end, a directory of a tar archive.
type entry struct {
	name string
	mode int64
	uid  int
	body []byte
}

func writeTar(entries []entry, at time.Time) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Mode: e.mode, Uid: e.uid, Size: int64(len(e.body)), ModTime: at,
			Typeflag: tar.TypeReg, Format: tar.FormatUSTAR}
		if strings.HasSuffix(e.name, "/") {
			h.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := w.Write(e.body); err != nil {
			return nil, err
		}
	}
	err := w.Close()
	return b.Bytes(), err
}

func pack(b []byte) ([]byte, error) {
	var out bytes.Buffer
	w, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(b); err != nil {
		return nil, err
	}
	err = w.Close()
	return out.Bytes(), err
}

// archive returns the image layout as one tar archive. With several architectures its index names one list of them, so
// that an engine picks its own. With one architecture it also has what docker load before version 25 reads.
func (l *layout) archive() ([]byte, error) {
	named := l.manifests[0]
	if len(l.manifests) > 1 {
		var err error
		list := index{SchemaVersion: 2, MediaType: indexType, Manifests: l.manifests}
		if named, err = l.blobJSON(indexType, list); err != nil {
			return nil, err
		}
	}
	image := "localhost/policyd:" + l.version
	named.Annotations = map[string]string{"org.opencontainers.image.ref.name": l.version,
		"io.containerd.image.name": image}
	top, err := json.Marshal(index{SchemaVersion: 2, MediaType: indexType, Manifests: []descriptor{named}})
	if err != nil {
		return nil, err
	}
	entries := []entry{
		{name: "oci-layout", mode: 0o644, body: []byte(`{"imageLayoutVersion":"1.0.0"}`)},
		{name: "index.json", mode: 0o644, body: top},
	}
	if len(l.manifests) == 1 {
		docker, err := json.Marshal([]dockerImage{{Config: blobPath(l.config), RepoTags: []string{image},
			Layers: []string{blobPath(l.packed)}}})
		if err != nil {
			return nil, err
		}
		entries = append(entries, entry{name: "manifest.json", mode: 0o644, body: docker})
	}
	entries = append(entries, entry{name: "blobs/", mode: 0o755}, entry{name: "blobs/sha256/", mode: 0o755})
	for _, d := range l.order {
		entries = append(entries, entry{name: blobPath(d), mode: 0o644, body: l.blobs[d]})
	}
	return writeTar(entries, l.created)
}

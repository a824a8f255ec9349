package roots

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Changed reports whether the files have changed since Load read them.
func (s *Set) Changed() bool { return s.stamp != stamp(s.sources()) }

// sources returns the files to read. For the system they are those of crypto/x509: the first bundle that exists, and
// all files in the directories; SSL_CERT_FILE and SSL_CERT_DIR replace them.
func (s *Set) sources() (list []string) {
	if s.caFile != "" {
		return []string{s.caFile}
	}
	bundles := []string{
		"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", // Debian, Fedora
		"/etc/ssl/ca-bundle.pem", "/etc/pki/tls/cacert.pem", // openSUSE, OpenELEC
		"/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", "/etc/ssl/cert.pem", // RHEL; Alpine, OpenBSD, macOS
		"/usr/local/etc/ssl/cert.pem", "/usr/local/share/certs/ca-root-nss.crt", // FreeBSD, DragonFly
		"/etc/openssl/certs/ca-certificates.crt", // NetBSD
	}
	if file := os.Getenv("SSL_CERT_FILE"); file != "" {
		bundles = []string{file}
	}
	for _, path := range bundles {
		if _, err := os.Stat(path); err == nil { //nolint:gosec // the operator names the file in SSL_CERT_FILE
			list = append(list, path)
			break
		}
	}
	directories := []string{"/etc/ssl/certs", "/etc/pki/tls/certs", "/usr/local/share/certs", "/etc/openssl/certs"}
	if dirs := os.Getenv("SSL_CERT_DIR"); dirs != "" {
		directories = filepath.SplitList(dirs)
	}
	for _, dir := range directories {
		entries, _ := os.ReadDir(dir) // a directory that does not exist has no files
		for _, e := range entries {
			path := filepath.Join(dir, e.Name())
			// The hashed names are links to other files of the same directory.
			if target, err := os.Readlink(path); err == nil && !strings.Contains(target, "/") {
				continue
			}
			list = append(list, path)
		}
	}
	return list
}

// stamp describes the state of files: it changes when one of them does.
func stamp(paths []string) string {
	var b strings.Builder
	for _, path := range paths {
		if info, err := os.Stat(path); err == nil {
			fmt.Fprintf(&b, "%s %d %d\n", path, info.Size(), info.ModTime().UnixNano())
		}
	}
	return b.String()
}

package doctor

import (
	"crypto/x509"
	"os"
	"path/filepath"
	"regexp"
	"slices"

	"github.com/policyd/policyd/internal/regfile"
)

// checkRoots examines the authorities that Postfix verifies with. It reads smtp_tls_CAfile before it enters the chroot.
func (e *exam) checkRoots() {
	file, directory := e.params["smtp_tls_CAfile"], e.params["smtp_tls_CApath"]
	line := e.set("smtp_tls_CAfile", systemRoots)
	if ours := e.Settings.TLS.CAFile; ours != "" && ours != file {
		e.found("roots-differ", "policyd has tls.ca_file = "+ours+", Postfix has smtp_tls_CAfile = "+file,
			e.set("smtp_tls_CAfile", ours))
	}
	inside := filepath.Join(e.queue, directory)
	pem, err := regfile.Read(file)
	switch {
	case file != "" && err != nil:
		e.found("roots-unreadable", "smtp_tls_CAfile: "+err.Error(), line, "apt-get install ca-certificates")
	case file != "" && !x509.NewCertPool().AppendCertsFromPEM(pem):
		e.found("roots-missing", "smtp_tls_CAfile = "+file+" has no certificate", line)
	case file != "":
		e.found("roots-found", "smtp_tls_CAfile = "+file)
	case directory == "" && e.params["tls_append_default_CA"] == "yes":
		e.found("roots-found", "tls_append_default_CA = yes: the authorities of the TLS library")
	case directory == "":
		e.found("roots-missing", "neither smtp_tls_CAfile nor smtp_tls_CApath is set", line)
	case !hasHashedName(directory):
		e.found("roots-missing", "smtp_tls_CApath = "+directory+" has no certificate under a hashed name", line,
			"# or:", "openssl rehash "+directory)
	case e.params.Chrooted(smtp) && !hasHashedName(inside):
		e.found("roots-not-in-chroot", "smtp(8) is chrooted and "+inside+" has no certificate", line,
			"# or, because Debian copies them then:", "systemctl restart postfix")
	default:
		e.found("roots-found", "smtp_tls_CApath = "+directory)
	}
}

// hasHashedName reports whether a directory has a certificate under a name of openssl-rehash(1).
func hasHashedName(directory string) bool {
	name := regexp.MustCompile(`^[0-9a-f]{8}\.[0-9]+$`)
	entries, _ := os.ReadDir(directory)
	return slices.ContainsFunc(entries, func(entry os.DirEntry) bool { return name.MatchString(entry.Name()) })
}

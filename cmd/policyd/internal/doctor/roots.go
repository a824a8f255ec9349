package doctor

import (
	"crypto/x509"
	"os"
	"path/filepath"
	"regexp"
	"strconv"

	"github.com/policyd/policyd/internal/regfile"
)

// checkRoots examines the certificate authorities that Postfix verifies with.
func (e *exam) checkRoots() {
	file, directory := e.params["smtp_tls_CAfile"], e.params["smtp_tls_CApath"]
	line := e.set("smtp_tls_CAfile", systemRoots)
	if ours := e.Settings.TLS.CAFile; ours != "" && ours != file {
		e.found("roots-differ", "policyd has tls.ca_file = "+ours+", Postfix has smtp_tls_CAfile = "+file,
			e.set("smtp_tls_CAfile", ours))
	}
	if file != "" {
		e.rootsFile(file, line)
		return
	}
	switch {
	case directory == "" && e.params["tls_append_default_CA"] == "yes":
		e.found("roots-found", "tls_append_default_CA = yes: the authorities of the TLS library")
	case directory == "":
		e.found("roots-missing", "neither smtp_tls_CAfile nor smtp_tls_CApath is set", line)
	case hashed(directory) == 0:
		e.found("roots-missing", "smtp_tls_CApath = "+directory+" has no certificate under a hashed name", line,
			"# or:", "openssl rehash "+directory)
	case e.smtpChrooted() && hashed(filepath.Join(e.queue, directory)) == 0:
		e.found("roots-not-in-chroot", "smtp(8) is chrooted and "+filepath.Join(e.queue, directory)+
			" has no certificate", line, "# or, because Debian copies them then:", "systemctl restart postfix")
	default:
		e.found("roots-found", "smtp_tls_CApath = "+directory+": "+strconv.Itoa(hashed(directory))+" names")
	}
}

// rootsFile examines smtp_tls_CAfile, which is read before the chroot is entered.
func (e *exam) rootsFile(file, line string) {
	pem, err := regfile.Read(file)
	pool := x509.NewCertPool()
	switch {
	case err != nil:
		e.found("roots-unreadable", "smtp_tls_CAfile: "+err.Error(), line, "apt-get install ca-certificates")
	case !pool.AppendCertsFromPEM(pem):
		e.found("roots-missing", "smtp_tls_CAfile = "+file+" has no certificate", line)
	default:
		e.found("roots-found", "smtp_tls_CAfile = "+file)
	}
}

// hashed counts the certificates that openssl-rehash(1) has given a name.
func hashed(directory string) int {
	name := regexp.MustCompile(`^[0-9a-f]{8}\.[0-9]+$`)
	entries, _ := os.ReadDir(directory)
	n := 0
	for _, entry := range entries {
		if name.MatchString(entry.Name()) {
			n++
		}
	}
	return n
}

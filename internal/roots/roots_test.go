package roots_test

import (
	"crypto/x509"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/regfile"
	"github.com/policyd/policyd/internal/roots"
	"github.com/policyd/policyd/internal/smtptls/smtptest"
)

// authority returns a root certificate and its PEM.
func authority(t *testing.T) (*x509.Certificate, []byte) {
	t.Helper()
	ca := smtptest.NewCA(t)
	return ca.Cert, ca.PEM()
}

// trusts reports whether a set trusts a certificate.
func trusts(s roots.Set, cert *x509.Certificate) bool {
	_, err := cert.Verify(x509.VerifyOptions{Roots: s.Pool})
	return err == nil
}

func TestAFileIsReadAgain(t *testing.T) {
	t.Parallel()
	a, aPEM := authority(t)
	b, bPEM := authority(t)
	file := filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(file, aPEM, 0o600))
	s, err := roots.Load(file)
	require.NoError(t, err)
	require.False(t, s.Changed())
	require.True(t, trusts(s, a))
	require.False(t, trusts(s, b))

	for name, change := range map[string]func(){
		"written":  func() { require.NoError(t, os.WriteFile(file, append(aPEM, bPEM...), 0o600)) },
		"replaced": func() { replace(t, file, append(bPEM, aPEM...)) },
		"removed":  func() { require.NoError(t, os.Remove(file)) },
	} {
		require.NoError(t, os.WriteFile(file, aPEM, 0o600))
		s, err := roots.Load(file)
		require.NoError(t, err, name)
		change()
		require.True(t, s.Changed(), name)
	}
	replace(t, file, bPEM)
	s, err = roots.Load(file)
	require.NoError(t, err)
	require.False(t, trusts(s, a))
	require.True(t, trusts(s, b))
}

func replace(t *testing.T, file string, content []byte) {
	t.Helper()
	require.NoError(t, os.WriteFile(file+".new", content, 0o600))
	require.NoError(t, os.Rename(file+".new", file))
}

func TestAFileThatCannotBeUsedIsAnError(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "ca.pem")
	_, err := roots.Load(file)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.NoError(t, os.WriteFile(file, []byte("no certificate"), 0o600))
	_, err = roots.Load(file)
	require.ErrorIs(t, err, roots.ErrNone)
	require.NoError(t, os.Remove(file))
	require.NoError(t, syscall.Mkfifo(file, 0o600))
	_, err = roots.Load(file)
	require.ErrorIs(t, err, regfile.ErrNotRegular)
}

// TestTheRootsOfTheSystem is not parallel: it changes the environment, as crypto/x509 documents it.
func TestTheRootsOfTheSystem(t *testing.T) {
	a, aPEM := authority(t)
	b, bPEM := authority(t)
	c, cPEM := authority(t)
	dir := t.TempDir()
	bundle, extra := filepath.Join(dir, "bundle.crt"), filepath.Join(dir, "extra")
	require.NoError(t, os.Mkdir(extra, 0o700))
	require.NoError(t, os.WriteFile(bundle, aPEM, 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(extra, "b.crt"), bPEM, 0o600))
	require.NoError(t, os.Symlink("b.crt", filepath.Join(extra, "0123abcd.0")))
	t.Setenv("SSL_CERT_FILE", bundle)
	t.Setenv("SSL_CERT_DIR", extra)
	s, err := roots.Load("")
	require.NoError(t, err)
	require.False(t, s.Changed())
	require.False(t, s.Empty)
	require.True(t, trusts(s, a) && trusts(s, b) && !trusts(s, c))

	require.NoError(t, os.WriteFile(filepath.Join(extra, "c.crt"), cPEM, 0o600))
	require.True(t, s.Changed(), "an authority was added")
	s, err = roots.Load("")
	require.NoError(t, err)
	require.True(t, trusts(s, a) && trusts(s, b) && trusts(s, c))

	require.NoError(t, os.Remove(filepath.Join(extra, "b.crt")))
	require.True(t, s.Changed(), "an authority was removed")
	replace(t, bundle, cPEM)
	s, err = roots.Load("")
	require.NoError(t, err)
	require.True(t, !trusts(s, a) && !trusts(s, b) && trusts(s, c))

	require.NoError(t, os.RemoveAll(extra))
	require.NoError(t, os.Remove(bundle))
	s, err = roots.Load("")
	require.NoError(t, err, "a system without root certificates")
	require.True(t, s.Empty)
	require.False(t, trusts(s, a) || trusts(s, b) || trusts(s, c))
}

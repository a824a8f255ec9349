package stub_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/dns/dnstest"
	"github.com/policyd/policyd/internal/stub"
)

func TestSignatureExpires(t *testing.T) {
	t.Parallel()
	server := dnstest.New(t)
	signature := func(covered, expires string) string {
		return "RRSIG " + covered + " 13 2 300 " + expires + " 20260101000000 12345 example.com. c2lnbmF0dXJl"
	}
	server.Set("example.com", dns.TypeMX, dnstest.Answer{Secure: true, Records: []string{
		"MX 10 mx.example.com.", signature("MX", "20270301000000"), signature("MX", "20270201000000"), signature("A", "20260201000000"),
	}})
	server.Set("unsigned.example.com", dns.TypeMX, dnstest.Answer{Records: []string{"MX 10 mx.example.com."}})
	s, err := stub.New(stub.Options{Servers: []string{server.Addr()}})
	require.NoError(t, err)
	t.Cleanup(s.Close)
	require.True(t, s.SelfTest(t.Context()))

	end, ok := s.SignatureExpires(t.Context(), dns.Question{Name: "Example.com.", Type: dns.TypeMX})
	require.True(t, ok)
	require.True(t, end.Equal(time.Date(2027, 2, 1, 0, 0, 0, 0, time.UTC)), "the first of those over the type: %s", end)
	_, ok = s.SignatureExpires(t.Context(), dns.Question{Name: "unsigned.example.com", Type: dns.TypeMX})
	require.False(t, ok)
	server.SetDead(true)
	require.NoError(t, s.Configure(stub.Options{Servers: []string{server.Addr()}, Timeout: 50 * time.Millisecond}))
	_, ok = s.SignatureExpires(t.Context(), dns.Question{Name: "example.com", Type: dns.TypeMX})
	require.False(t, ok)
}

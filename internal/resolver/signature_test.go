package resolver_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/resolver"
	"github.com/policyd/policyd/internal/resolver/resolvertest"
)

func TestSignatureExpires(t *testing.T) {
	t.Parallel()
	server := resolvertest.New(t)
	signature := func(covered, expires string) string {
		return "RRSIG " + covered + " 13 2 300 " + expires + " 20260101000000 12345 example.com. c2lnbmF0dXJl"
	}
	server.Set("example.com", resolver.TypeMX, resolvertest.Answer{Secure: true, Records: []string{
		"MX 10 mx.example.com.", signature("MX", "20270301000000"), signature("MX", "20270201000000"), signature("A", "20260201000000"),
	}})
	server.Set("unsigned.example.com", resolver.TypeMX, resolvertest.Answer{Records: []string{"MX 10 mx.example.com."}})
	stub, err := resolver.NewStub(resolver.StubOptions{Servers: []string{server.Addr()}})
	require.NoError(t, err)
	require.True(t, stub.SelfTest(t.Context()))

	end, ok := stub.SignatureExpires(t.Context(), resolver.Question{Name: "Example.com.", Type: resolver.TypeMX})
	require.True(t, ok)
	require.True(t, end.Equal(time.Date(2027, 2, 1, 0, 0, 0, 0, time.UTC)), "the first of those over the type: %s", end)
	_, ok = stub.SignatureExpires(t.Context(), resolver.Question{Name: "unsigned.example.com", Type: resolver.TypeMX})
	require.False(t, ok)
	server.SetDead(true)
	require.NoError(t, stub.Configure(resolver.StubOptions{Servers: []string{server.Addr()}, Timeout: 50 * time.Millisecond}))
	_, ok = stub.SignatureExpires(t.Context(), resolver.Question{Name: "example.com", Type: resolver.TypeMX})
	require.False(t, ok)
}

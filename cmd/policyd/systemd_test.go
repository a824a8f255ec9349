package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParseListen(t *testing.T) {
	require.Equal(t, []string{"127.0.0.1:2526", "unix:/var/spool/postfix/policyd/sock", "[::1]:2526"},
		parseListen("127.0.0.1:2526 (Stream)\n/var/spool/postfix/policyd/sock (Stream)\n[::1]:2526 (Stream)\n/run/other (Datagram)\n"))
	require.Empty(t, parseListen("\n"))
}

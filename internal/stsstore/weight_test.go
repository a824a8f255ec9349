package stsstore

import (
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/mtasts"
)

// What bounds the policies must bound their memory: a line of three octets takes more than three octets.
func TestAPolicyOfManyLinesWeighsWhatItTakes(t *testing.T) {
	t.Parallel()
	p, err := mtasts.ParsePolicy([]byte("version: STSv1\nmode: enforce\nmax_age: 1\nmx: a\n" + strings.Repeat("a:b\n", 16_000)))
	require.NoError(t, err)
	takes := 0
	for _, line := range p.Raw {
		takes += len(line) + int(unsafe.Sizeof(line))
	}
	require.GreaterOrEqual(t, newStoredPolicy("example.com", "1", p, time.Now()).weight, takes/weightUnit)
}

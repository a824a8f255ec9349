package lab

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestLast(t *testing.T) {
	t.Parallel()
	const text = "# a\na = 1\n  more\n\nb = 2\na = 3\n# a comment\n  and more\n-o a=4\nb=5\n"
	require.Equal(t, "# a\n\na = 3\n# a comment\n  and more\n-o a=4\nb=5\n", last(text))
}

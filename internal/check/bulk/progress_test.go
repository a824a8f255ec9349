package bulk

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestProgress(t *testing.T) {
	t.Parallel()
	p := &Progress{}
	for range 100 {
		p.add()
	}
	for range 20 {
		p.done()
	}
	require.Equal(t, "20 of 100+ domains, 2.0/s, time left unknown", p.line(10*time.Second))
	p.end()
	require.Equal(t, "20 of 100 domains, 2.0/s, 40s left", p.line(10*time.Second))
	for terminal, pattern := range map[bool]string{false: `left\n$`, true: `left {5,}\n$`} {
		var b strings.Builder
		p.Out, p.Terminal, p.began = &b, terminal, time.Now()
		p.show("\n")
		require.Regexp(t, pattern, b.String(), "blanks are for what is written over")
	}
	var nobody *Progress
	nobody.add()
	nobody.done()
	nobody.end()
}

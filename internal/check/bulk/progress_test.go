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
	p.Total.Add(100)
	p.Done.Add(20)
	require.Equal(t, "20 of 100+ domains, 2.0/s, time left unknown", p.line(10*time.Second))
	p.Complete.Store(true)
	require.Equal(t, "20 of 100 domains, 2.0/s, 40s left", p.line(10*time.Second))
	for terminal, pattern := range map[bool]string{false: `left\n$`, true: `left {5,}\n$`} {
		var b strings.Builder
		p.Out, p.Terminal, p.began = &b, terminal, time.Now()
		p.show("\n")
		require.Regexp(t, pattern, b.String(), "blanks are for what is written over")
	}
	(&Progress{}).Start()() // shows nothing
}

package stub

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A stranger's slow name servers make a server that is well look dead, as often as the stranger likes: that is no
// line in the log each time. A server that stays dead is said to be so all the same.
func TestAServerThatIsSlowNowAndThenIsSaidToBeOnceAMinute(t *testing.T) {
	t.Parallel()
	var p penalties
	server, err := ParseServer("127.0.0.1")
	require.NoError(t, err)
	now := time.Now()
	said, back := 0, 0
	for range 10 * 60 {
		if p.punish(server, now) {
			said++
		}
		punished, news := p.pardon(server, now)
		require.True(t, punished)
		if news {
			back++
		}
		now = now.Add(time.Second)
	}
	require.Equal(t, 10, said)
	require.Equal(t, said, back, "what was said is taken back, and nothing else")

	require.False(t, p.punish(server, now.Add(-time.Second)), "it was said just now")
	require.True(t, p.punish(server, now.Add(saidAgain)), "it is still dead")
	require.False(t, p.punish(server, now.Add(time.Hour)), "that has been said")
	_, news := p.pardon(server, now)
	require.True(t, news)
	punished, news := p.pardon(server, now)
	require.False(t, punished || news)
}

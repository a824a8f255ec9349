package blocked

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// fail notes the failures of names, where # is a number, at addresses, "" for none, and returns how often the detector reported a block.
func fail(d *Detector, names string, addrs ...string) (reports int) {
	for i, text := range addrs {
		addr, _ := netip.ParseAddr(text)
		name := strings.ReplaceAll(names, "#", strconv.Itoa(i))
		if d.Failed(name, addr, time.Now(), false) {
			reports++
		}
	}
	return reports
}

func five() []string { return []string{"11.0.0.1", "11.0.1.1", "11.1.0.1", "2600::1", "2600:0:1::1"} }

func TestFiveNamesInFiveNetworksAreABlock(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, names string
		addrs       []string
		reports     int
	}{
		{"five networks", "#", five(), 1},
		{"four networks", "#", five()[1:], 0},
		{"one network", "#", []string{"11.0.0.1", "11.0.0.2", "11.0.0.3", "11.0.0.4", "11.0.0.5"}, 0},
		{"a network twice", "#", append(five()[:4], "11.0.1.9"), 0},
		{"one name", "x", five(), 0},
		{"loopback addresses", "#", []string{"127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5"}, 1},
		{"behind a proxy", "#", []string{"", "", "", "", ""}, 1},
		{"one name behind a proxy", "x", []string{"", "", "", "", ""}, 0},
	} {
		var d Detector
		require.Equal(t, c.reports, fail(&d, c.names, c.addrs...), c.name)
		require.Equal(t, c.reports == 0, d.Since().IsZero(), c.name)
	}
}

func TestABlockIsReportedOnceAndEndsWithASuccess(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var d Detector
		require.Zero(t, d.Succeeded())
		require.Equal(t, 1, fail(&d, "a#", five()...))
		since := time.Now()
		time.Sleep(time.Hour)
		require.Zero(t, fail(&d, "b#", five()...))
		require.Len(t, d.failures, Enough, "no more are kept")
		require.Equal(t, since, d.Since())
		require.Equal(t, since, d.Succeeded())
		require.Zero(t, d.Since())
		require.Zero(t, fail(&d, "c#", five()[:4]...))
		require.Zero(t, d.Succeeded())
		require.Zero(t, fail(&d, "d#", five()[4]), "those before do not count")
	})
}

// A name can stay broken while others work, so it does not count after a success.
func TestANameThatFailedBeforeASuccessShowsNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var d Detector
		first := time.Now()
		time.Sleep(time.Hour)
		d.Succeeded()
		for i, addr := range five() {
			require.False(t, d.Failed(fmt.Sprint(i), netip.MustParseAddr(addr), first, false))
		}
		require.Empty(t, d.failures)
	})
}

// While something else is open, failures are only collected.
func TestABlockIsReportedWhenNothingElseIsOpen(t *testing.T) {
	t.Parallel()
	var d Detector
	for i, addr := range five() {
		require.False(t, d.Failed(fmt.Sprint(i), netip.MustParseAddr(addr), time.Now(), true))
	}
	require.Zero(t, d.Since())
	require.Equal(t, 1, fail(&d, "#", "11.0.0.1"))
}

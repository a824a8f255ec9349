package stsstore_test

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"

	"github.com/policyd/policyd/internal/mtasts"
	"github.com/policyd/policyd/internal/stsstore"
	"github.com/policyd/policyd/internal/testkit"
)

func TestPoliciesSurviveARestart(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "state")
	synctest.Test(t, func(t *testing.T) {
		w := newInternet()
		w.set(domain, "1", enforce+"x: \u2709 and \"more\"\n")
		s := w.store(t, in(dir))
		require.Equal(t, found1, short(s.Lookup(t.Context(), domain, anything)))
		first := s.Lookup(t.Context(), domain, anything)
		require.True(t, s.Stats().Persistent)
		require.NoError(t, s.Close())

		// HTTPS is down, and DNS denies that there ever was a policy.
		w.down(mtasts.FetchError)
		w.change(func() { delete(w.txt, domain) })
		s = w.store(t, in(dir))
		r := s.Lookup(t.Context(), domain, anything)
		require.Equal(t, found1+" stale", short(r))
		require.Equal(t, first.Policy, r.Policy)
		require.True(t, first.Expires.Equal(r.Expires))
		require.Equal(t, found1+" stale", short(s.Lookup(t.Context(), domain, cacheOnly)))
		time.Sleep(24 * time.Hour)
		require.Equal(t, "absent", short(s.Lookup(t.Context(), domain, anything)))
	})
}

func TestANewerPolicyReplacesTheStoredOne(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		w := newInternet()
		w.set(domain, "1", enforce)
		s := w.store(t, in(dir))
		s.Lookup(t.Context(), domain, anything)
		require.NoError(t, s.Close())
		w.set(domain, "2", "")
		s = w.store(t, in(dir))
		time.Sleep(ttl)
		require.Equal(t, "found 2 enforce [mx.example.com]", short(s.Lookup(t.Context(), domain, anything)))
		run(t, s)
		synctest.Wait()
		require.Equal(t, "2", get(s, domain).ID)
		require.NoError(t, s.Close())
		s = w.store(t, in(dir))
		require.Equal(t, "found 2 enforce [mx.example.com]", short(s.Lookup(t.Context(), domain, anything)))
		require.Equal(t, 2, w.fetches())
	})
}

func TestFlushForgetsAlsoOnDisk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		w := newInternet()
		w.set(domain, "1", enforce)
		s := w.store(t, in(dir))
		s.Lookup(t.Context(), domain, anything)
		require.NoError(t, s.Close())
		w.down(mtasts.WebPKIInvalid)

		s = w.store(t, in(dir))
		require.True(t, s.Flush("Example.COM."))
		require.False(t, s.Flush(domain))
		require.Equal(t, "failed sts-webpki-invalid", short(s.Lookup(t.Context(), domain, anything)))
		require.Contains(t, get(s, domain).Reason, mtasts.WebPKIInvalid)
		require.Empty(t, get(s, domain).Mode)
		require.True(t, s.Flush(domain), "the failure is forgotten, too")
		_, known := s.Get(domain)
		require.False(t, known)
		require.NoError(t, s.Close())

		s = w.store(t, in(dir))
		require.Equal(t, "failed sts-webpki-invalid", short(s.Lookup(t.Context(), domain, anything)))
	})
}

func TestTheLeastRecentlyUsedAreEvicted(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		w := newInternet()
		limit := func(o *stsstore.Options) { o.StateDir, o.MaxPolicies = dir, 10 }
		s := w.store(t, limit)
		for i := range 30 {
			name := fmt.Sprintf("d%02d.example", i)
			w.set(name, "1", enforce)
			require.Equal(t, found1, short(s.Lookup(t.Context(), name, anything)))
			time.Sleep(time.Minute)
			require.Equal(t, mtasts.Found, s.Lookup(t.Context(), "d00.example", anything).State, "in use")
			require.LessOrEqual(t, s.Stats().Policies, 10)
		}
		for name, kept := range map[string]bool{"d00.example": true, "d29.example": true, "d01.example": false} {
			_, known := s.Get(name)
			require.Equal(t, kept, known, name)
		}
		n := s.Stats().Policies
		require.NoError(t, s.Close())

		s = w.store(t, limit)
		run(t, s)
		synctest.Wait()
		require.Equal(t, n, s.Stats().Policies, "the disk has as many")

		// A policy of 64 KiB counts as several.
		w.set("big.example", "1", enforce+"x: "+strings.Repeat("y", 60<<10)+"\n")
		require.Equal(t, found1, short(s.Lookup(t.Context(), "big.example", anything)))
		require.Equal(t, 1, s.Stats().Policies)
	})
}

func TestExpiredPoliciesAreRemoved(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		w := newInternet()
		w.set(domain, "1", enforce)
		s := w.store(t, in(dir))
		run(t, s)
		s.Lookup(t.Context(), domain, anything)
		time.Sleep(25 * time.Hour)
		require.Zero(t, s.Stats().Policies)
		require.Equal(t, 1, stored(t, s, dir), "kept for a while, for the case of a clock that is wrong")

		s = w.store(t, in(dir))
		run(t, s)
		time.Sleep(24 * time.Hour)
		require.Zero(t, stored(t, s, dir))
	})
}

// stored closes s and counts what is on its disk.
func stored(t *testing.T, s *stsstore.Store, dir string) (n int) {
	t.Helper()
	require.NoError(t, s.Close())
	db, err := bbolt.Open(filepath.Join(dir, "mtasts.db"), 0o600, nil)
	require.NoError(t, err)
	require.NoError(t, db.View(func(tx *bbolt.Tx) error {
		n = tx.Bucket([]byte("policies-1")).Stats().KeyN
		return nil
	}))
	require.NoError(t, db.Close())
	return n
}

func TestPoliciesHoldWhenTheClockIsSetBack(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	const ahead = 1000 * time.Hour
	synctest.Test(t, func(t *testing.T) {
		w := newInternet()
		w.set(domain, "1", enforce)
		w.set("down.example", "1", enforce)
		time.Sleep(ahead)
		s := w.store(t, in(dir))
		s.Lookup(t.Context(), domain, anything)
		s.Lookup(t.Context(), "down.example", anything)
		require.NoError(t, s.Close())
	})
	synctest.Test(t, func(t *testing.T) {
		w := newInternet()
		w.set(domain, "1", enforce)
		w.set("down.example", "1", "no policy")
		s := w.store(t, in(dir))
		run(t, s)
		require.Equal(t, found1, short(s.Lookup(t.Context(), domain, anything)))
		require.Equal(t, found1, short(s.Lookup(t.Context(), "down.example", anything)), "it holds")
		shared, _, _ := s.Share("down.example")
		require.Nil(t, shared, "a peer may have fetched a newer one")
		time.Sleep(time.Minute)
		shared, _, _ = s.Share(domain)
		require.NotNil(t, shared)
		require.Equal(t, found1, short(s.Lookup(t.Context(), domain, anything)))
		require.EqualValues(t, 1, s.Stats().Fetches["ok"], "it was fetched again")
		time.Sleep(23 * time.Hour)
		require.Equal(t, found1, short(s.Lookup(t.Context(), "down.example", anything)), "for its max_age after the start, and not for less")
		time.Sleep(time.Hour)
		require.Equal(t, "failed sts-policy-invalid", short(s.Lookup(t.Context(), "down.example", anything)), "and not for longer")
	})
}

// The clock is years ahead for a moment: no policy is lost.
func TestPoliciesAreKeptWhenTheClockIsFarAheadForAMoment(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		w := newInternet()
		w.set(domain, "1", enforce)
		s := w.store(t, in(dir))
		require.Equal(t, found1, short(s.Lookup(t.Context(), domain, anything)))
		require.NoError(t, s.Close())
	})
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(1000 * time.Hour)
		s := newInternet().store(t, in(dir))
		run(t, s)
		time.Sleep(time.Hour)
		require.NoError(t, s.Close())
	})
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Hour)
		w := newInternet()
		w.set(domain, "1", enforce)
		w.down(mtasts.FetchError)
		require.Equal(t, found1, short(w.store(t, in(dir)).Lookup(t.Context(), domain, anything)))
	})
}

func TestTheDiskIsTrustedNoMoreThanAPolicyHost(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	now := time.Now().Format(time.RFC3339)
	good := `{"id":"1","fetched":"` + now + `","lines":["version: STSv1","mode: enforce","mx: mx.example.com","max_age: 86400"]}`
	bad := map[string]string{
		"json.example":  "no JSON",
		"id.example":    strings.Replace(good, `"1"`, `"1;2"`, 1),
		"noid.example":  strings.Replace(good, `"1"`, `""`, 1),
		"mode.example":  strings.Replace(good, "enforce", "off", 1),
		"age.example":   strings.Replace(good, "86400", "forever", 1),
		"time.example":  strings.Replace(good, now, "yesterday", 1),
		"UPPER.example": good,
		"a b.example":   good,
		"-x.example":    good,
	}
	db, err := bbolt.Open(filepath.Join(dir, "mtasts.db"), 0o600, nil)
	require.NoError(t, err)
	require.NoError(t, db.Update(func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucket([]byte("policies-1"))
		require.NoError(t, err)
		require.NoError(t, b.Put([]byte("good.example"), []byte(good)))
		for k, v := range bad {
			require.NoError(t, b.Put([]byte(k), []byte(v)))
		}
		return nil
	}))
	require.NoError(t, db.Close())
	w := newInternet()
	s := w.store(t, in(dir))
	for k := range bad {
		require.NotEqual(t, mtasts.Found, s.Lookup(t.Context(), k, anything).State, k)
	}
	run(t, s)
	require.Equal(t, found1+" stale", short(s.Lookup(t.Context(), "good.example", anything)))
	require.Equal(t, 1, s.Stats().Policies)
	require.Equal(t, 1, stored(t, s, dir))
}

// overwrite overwrites all but the meta pages of a file in place.
func overwrite(file string, size int64) error {
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	if _, err := f.WriteAt(bytes.Repeat([]byte{0xa5}, int(size)-8192), 8192); err != nil {
		return err
	}
	return f.Close()
}

func TestWithoutAUsableDiskPoliciesStayInMemory(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		dir  func(t *testing.T) string
	}{
		{"the directory is a file", func(t *testing.T) string {
			t.Helper()
			file := filepath.Join(t.TempDir(), "file")
			require.NoError(t, os.WriteFile(file, nil, 0o600))
			return file
		}},
		{"the file is a directory", func(t *testing.T) string {
			t.Helper()
			dir := t.TempDir()
			require.NoError(t, os.Mkdir(filepath.Join(dir, "mtasts.db"), 0o700))
			return dir
		}},
		{"a file system that takes no files", func(*testing.T) string { return "/proc/policyd" }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w, j := newInternet(), &testkit.Log{}
			dir := c.dir(t)
			synctest.Test(t, func(t *testing.T) {
				w.set(domain, "1", enforce)
				w.set("other.example", "1", enforce)
				s := w.store(t, func(o *stsstore.Options) { o.StateDir, o.Logger = dir, j.Logger() })
				run(t, s)
				require.Equal(t, found1, short(s.Lookup(t.Context(), domain, anything)))
				require.Equal(t, found1, short(s.Lookup(t.Context(), "other.example", anything)))
				time.Sleep(time.Hour)
				require.False(t, s.Stats().Persistent)
				require.Equal(t, 1, j.Count("level=WARN"), "one warning")
				require.Zero(t, j.Count("corrupt"))
			})
		})
	}
}

func TestADiskThatFailsLaterIsOpenedAgain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		w, j := newInternet(), &testkit.Log{}
		var broken func() error
		s := w.store(t, func(o *stsstore.Options) {
			o.StateDir, o.Logger, broken = dir, j.Logger(), stsstore.BreakDisk(o)
		})
		w.set(domain, "1", enforce)
		w.set("other.example", "1", enforce)
		require.Equal(t, found1, short(s.Lookup(t.Context(), domain, anything)))
		require.NoError(t, broken())
		require.Equal(t, found1, short(s.Lookup(t.Context(), "other.example", anything)))
		require.Equal(t, found1, short(s.Lookup(t.Context(), "other.example", anything)))
		require.Equal(t, found1, short(s.Lookup(t.Context(), domain, anything)))
		require.Equal(t, 1, j.Count("level=WARN"))
		require.False(t, s.Stats().Persistent)
		run(t, s)
		time.Sleep(5 * time.Second)
		require.True(t, s.Stats().Persistent)
		require.Equal(t, 2, stored(t, s, dir))
	})
}

func TestAFileOfAnotherProcessIsOpenedLater(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w, j := newInternet(), &testkit.Log{}
	synctest.Test(t, func(t *testing.T) {
		w.set(domain, "1", enforce)
		w.set("other.example", "1", enforce)
		elsewhere := w.store(t, in(dir))
		require.Equal(t, found1, short(elsewhere.Lookup(t.Context(), domain, anything)))

		s := w.store(t, func(o *stsstore.Options) { o.StateDir, o.Logger = dir, j.Logger() })
		run(t, s)
		require.Equal(t, found1, short(s.Lookup(t.Context(), "other.example", anything)))
		require.Equal(t, 1, j.Count("another process has it open"))
		require.NoError(t, elsewhere.Close())
		time.Sleep(2 * time.Minute)
		w.down(mtasts.FetchError)
		require.Equal(t, found1, short(s.Lookup(t.Context(), domain, anything)), "read from the file")
		require.Equal(t, 1, j.Count("level=WARN"))
		require.Equal(t, 2, stored(t, s, dir), "with the policy that was fetched before it could be opened")
	})
}

// TestKill kills a process that fetches and stores policies, again and again. Every policy that a lookup returned must be
// on disk afterwards.
func TestKill(t *testing.T) {
	const rounds, each = 25, 8
	if dir := os.Getenv("POLICYD_TEST_KILL"); dir != "" {
		storeUntilKilled(t, dir, os.Getenv("POLICYD_TEST_ROUND"))
		return
	}
	// Not parallel: a process that has just been forked still has the descriptors of this one, and with them the locks of
	// files that other tests close and open again.
	dir := t.TempDir()
	var acknowledged []string
	for round := range rounds {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKill$", "-test.count=1")
		cmd.Env = append(os.Environ(), "POLICYD_TEST_KILL="+dir, fmt.Sprint("POLICYD_TEST_ROUND=", round))
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); {
			if name, ok := strings.CutPrefix(lines.Text(), "stored "); ok {
				acknowledged = append(acknowledged, name)
				// The process is killed while it works; the policies that it reported before count.
				if n++; n == each+round%3 {
					require.NoError(t, cmd.Process.Kill())
				}
			}
		}
		require.Error(t, cmd.Wait(), "it was killed")
	}
	require.GreaterOrEqual(t, len(acknowledged), rounds*each)
	w, j := newInternet(), &testkit.Log{}
	s := w.store(t, func(o *stsstore.Options) { o.StateDir, o.Logger = dir, j.Logger() })
	for _, name := range acknowledged {
		require.Equal(t, found1+" stale", short(s.Lookup(t.Context(), name, anything)), name)
	}
	require.Zero(t, w.fetches())
	require.Zero(t, j.Count("level"))
}

func storeUntilKilled(t *testing.T, dir, round string) {
	t.Helper()
	w, j := newInternet(), &testkit.Log{}
	s := w.store(t, func(o *stsstore.Options) { o.StateDir, o.Logger = dir, j.Logger() })
	require.Zero(t, j.Count("level"), "the file was whole")
	run(t, s)
	for i := 0; ; i++ {
		name := fmt.Sprintf("r%s-%d.example", round, i)
		w.set(name, "1", enforce)
		require.Equal(t, found1, short(s.Lookup(t.Context(), name, anything)))
		fmt.Println("stored", name)
	}
}

// Other versions of policyd read the file and what the nodes of a site share: neither form may change.
func TestTheFormsOnDiskAndForPeersAreStable(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		w := newInternet()
		w.set(domain, "1", enforce)
		s := w.store(t, in(dir))
		require.Equal(t, found1, short(s.Lookup(t.Context(), domain, anything)))
		shared, _, _ := s.Share(domain)
		require.NoError(t, s.Close())

		const lines = `"lines":["version: STSv1","mode: enforce","max_age: 86400","mx: mx.example.com"]}`
		require.JSONEq(t, `{"id":"1","fetched":"0001-01-01T00:00:00Z",`+lines, string(shared))
		db, err := bbolt.Open(filepath.Join(dir, "mtasts.db"), 0o600, nil)
		require.NoError(t, err)
		require.NoError(t, db.View(func(tx *bbolt.Tx) error {
			value := tx.Bucket([]byte("policies-1")).Get([]byte(domain))
			require.JSONEq(t, `{"id":"1","fetched":"2000-01-01T00:00:00Z",`+lines, string(value))
			return nil
		}))
		require.NoError(t, db.Close())
	})
}

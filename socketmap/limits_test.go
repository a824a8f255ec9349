package socketmap_test

import (
	"context"
	"math"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/socketmap"
)

func TestASilentConnectionIsClosedAfterIdleTimeout(t *testing.T) {
	t.Parallel()
	for _, limits := range []socketmap.Limits{{}, {IdleTimeout: 2 * time.Minute}, {IdleTimeout: -1}} {
		s := &socketmap.Server{Limits: limits}
		bubble(t, s, func(t *testing.T, p *pipes) {
			silent, active := p.dial(t), p.dial(t)
			for range 10 {
				time.Sleep(time.Minute)
				exchange(t, active, "10:echo hello,", "8:OK hello,")
			}
			requireClosed(t, silent)
			begun := time.Now()
			requireClosed(t, active)
			require.InDelta(t, 2*time.Minute, time.Since(begun), float64(time.Second))
			require.Equal(t, uint64(2), s.Stats().Idle)
		})
	}
}

func TestTheLongestTimeoutsCloseNoConnection(t *testing.T) {
	t.Parallel()
	const longest = time.Duration(math.MaxInt64)
	s := &socketmap.Server{Limits: socketmap.Limits{
		IdleTimeout: longest, RequestTimeout: longest, WriteTimeout: longest,
	}}
	bubble(t, s, func(t *testing.T, p *pipes) {
		conn := p.dial(t)
		for range 3 {
			time.Sleep(time.Hour)
			_, err := conn.Write([]byte("10:echo"))
			require.NoError(t, err)
			exchange(t, conn, " hello,", "8:OK hello,")
		}
	})
}

func TestAStalledRequestIsClosedAfterRequestTimeout(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		limits socketmap.Limits
		after  time.Duration
	}{
		{socketmap.Limits{}, 10 * time.Second},
		{socketmap.Limits{IdleTimeout: 4 * time.Second}, 4 * time.Second},
		{socketmap.Limits{RequestTimeout: 3 * time.Second}, 3 * time.Second},
	} {
		s := &socketmap.Server{Limits: c.limits}
		bubble(t, s, func(t *testing.T, p *pipes) {
			for i, first := range []string{"1", "20:echo he", "10:echo hello,10:echo he"} {
				conn := p.dial(t)
				if i == 2 {
					go func() { _, _ = conn.Read(make([]byte, 100)) }()
				}
				_, err := conn.Write([]byte(first))
				require.NoError(t, err)
				for range 4 { // further bytes do not extend the time
					time.Sleep(c.after / 5)
					if i == 1 {
						_, err = conn.Write([]byte("x"))
						require.NoError(t, err)
					}
				}
				begun := time.Now()
				requireClosed(t, conn)
				require.InDelta(t, c.after/5, time.Since(begun), float64(time.Millisecond))
				require.Equal(t, uint64(i+1), s.Stats().Stalled)
			}
		})
	}
}

func TestARequestInPiecesIsAnsweredWithinRequestTimeout(t *testing.T) {
	t.Parallel()
	bubble(t, &socketmap.Server{}, func(t *testing.T, p *pipes) {
		c := p.dial(t)
		for range 3 {
			for _, piece := range []string{"1", "0:", "echo", " he", "llo"} {
				exchange(t, c, piece, "")
				time.Sleep(1900 * time.Millisecond)
			}
			exchange(t, c, ",", "8:OK hello,")
			time.Sleep(time.Minute)
		}
	})
}

func TestTheConnectionIdleLongestMakesRoom(t *testing.T) {
	t.Parallel()
	s := &socketmap.Server{Limits: socketmap.Limits{MaxConnections: 3}}
	bubble(t, s, func(t *testing.T, p *pipes) {
		var conns []net.Conn
		for range 3 {
			c := p.dial(t)
			exchange(t, c, "10:echo hello,", "8:OK hello,")
			conns = append(conns, c)
			time.Sleep(time.Second)
		}
		exchange(t, conns[0], "10:echo again,", "8:OK again,")
		synctest.Wait()
		exchange(t, p.dial(t), "10:echo hello,", "8:OK hello,")
		requireClosed(t, conns[1])
		exchange(t, conns[0], "10:echo again,", "8:OK again,")
		exchange(t, conns[2], "10:echo again,", "8:OK again,")
		require.Equal(t, uint64(1), s.Stats().Evicted)
		require.Equal(t, 3, s.Stats().Open)
	})
}

func TestAPartialRequestDoesNotKeepItsConnection(t *testing.T) {
	t.Parallel()
	s := &socketmap.Server{Limits: socketmap.Limits{MaxConnections: 1}}
	bubble(t, s, func(t *testing.T, p *pipes) {
		for _, half := range []string{"1", "10:echo", "10:echo hello,10:echo"} {
			c := p.dial(t)
			go func() { _, _ = c.Write([]byte(half)) }()
			if len(half) > len("10:echo hello,") {
				exchange(t, c, "", "8:OK hello,")
			}
			synctest.Wait()
			exchange(t, p.dial(t), "10:echo hello,", "8:OK hello,")
			requireClosed(t, c)
		}
	})
	require.Zero(t, s.Stats().Refused)
}

func TestABusyConnectionIsNotClosedForANewOne(t *testing.T) {
	t.Parallel()
	var leave chan struct{}
	s := &socketmap.Server{Limits: socketmap.Limits{MaxConnections: 1}, Handler: socketmap.HandlerFunc(
		func(context.Context, socketmap.Request) socketmap.Reply {
			<-leave
			return socketmap.OK("late")
		})}
	bubble(t, s, func(t *testing.T, p *pipes) {
		leave = make(chan struct{})
		c := p.dial(t)
		exchange(t, c, "10:echo hello,", "")
		synctest.Wait()
		requireClosed(t, p.dial(t))
		close(leave)
		exchange(t, c, "", "7:OK late,")
		require.Equal(t, uint64(1), s.Stats().Refused)
		require.Zero(t, s.Stats().Evicted)
	})
}

func TestSetLimitsAppliesToOpenConnections(t *testing.T) {
	t.Parallel()
	s := &socketmap.Server{}
	bubble(t, s, func(t *testing.T, p *pipes) {
		c := p.dial(t)
		exchange(t, c, "10:echo hello,", "8:OK hello,")
		s.SetLimits(socketmap.Limits{IdleTimeout: time.Second})
		exchange(t, c, "10:echo hello,", "8:OK hello,")
		begun := time.Now()
		requireClosed(t, c)
		require.InDelta(t, time.Second, time.Since(begun), float64(100*time.Millisecond))
	})
}

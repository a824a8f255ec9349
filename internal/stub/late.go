package stub

import (
	"log/slog"
	"sync"
	"time"
)

// lateAnswer is how long an answer takes that is late: half of the time that most lookups have is over.
const lateAnswer = time.Second

// lateness are the servers that answer late. It is for people only. A domain whose own name servers are slow makes a
// server look late: so it is said only where a question of our own, which a server knows by heart, is answered late too.
type lateness struct {
	mu     sync.Mutex
	looked map[Server]bool // for: an answer was late
	said   map[Server]said
}

// answered notes how long an answer of a server took.
func (l *lateness) answered(server Server, took time.Duration) {
	if took < lateAnswer {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.looked == nil {
		l.looked, l.said = map[Server]bool{}, map[Server]said{}
	}
	l.looked[server] = true
}

// watched says whether a question of our own should tell if a server answers late.
func (l *lateness) watched(server Server) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.looked[server]
}

// checked logs what a question of our own, and how long its answer took, tells of a server that is watched, if that is news.
func (l *lateness) checked(log *slog.Logger, server Server, took time.Duration) {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	before, ever := l.said[server]
	switch {
	case !l.looked[server]:
	case took < lateAnswer:
		delete(l.looked, server)
		if before.last {
			l.said[server] = said{at: before.at}
			log.Info("a DNS server answers in time again", "server", server.String())
		}
	case !before.last && (!ever || now.Sub(before.at) >= saidAgain):
		l.said[server] = said{at: now, last: true}
		log.Warn("a DNS server answers late: first lookups of a domain take longer, or are TEMP", "server", server.String(), "took", took.Round(time.Millisecond))
	}
}

func (l *lateness) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.looked)
	clear(l.said)
}

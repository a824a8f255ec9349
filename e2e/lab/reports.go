package lab

import (
	"bytes"
	"encoding/json"
	"io"
	"net"
	"os"
	"path/filepath"

	"github.com/policyd/policyd/e2e/daemon"
	"github.com/policyd/policyd/e2e/must"
)

// CollectReports makes the lab a collector of TLSRPT (TLSRPT_README). Call it before Start.
func (l *Lab) CollectReports() { l.reports = &daemon.Log{} }

// collect writes the datagrams that arrive on a socket to a log, one per line.
func collect(path string, to io.Writer) {
	must.Do(os.MkdirAll(filepath.Dir(path), 0o755))
	c := must.Get(net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"}))
	must.Do(os.Chmod(path, 0o666))
	go func() {
		buf := make([]byte, 1<<16)
		for {
			n, err := c.Read(buf)
			if err != nil {
				return
			}
			var report bytes.Buffer
			if err := json.Compact(&report, buf[:n]); err != nil {
				report.WriteString("no JSON: " + err.Error())
			}
			report.WriteByte('\n')
			_, _ = to.Write(report.Bytes())
		}
	}()
}

package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
)

// ReportSocket is where Postfix tells a collector of TLSRPT what it has seen, below the queue directory.
const ReportSocket = "tlsrpt/collector"

// CollectReports has the lab be a collector of TLSRPT (TLSRPT_README). Call it before Start.
func (l *Lab) CollectReports() { l.reports = newLines() }

// collect takes what comes in on a datagram socket, a line each.
func collect(path string, to *lines) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	if err := os.Chmod(path, 0o666); err != nil {
		return fmt.Errorf("lab: %w", err)
	}
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
	return nil
}

// Report waits for a report about a domain.
func (l *Lab) Report(ctx context.Context, domain string) (string, error) {
	line, _, err := l.reports.wait(ctx, 0, func(line string) bool { return strings.Contains(line, `"`+domain+`"`) })
	if err != nil {
		return "", fmt.Errorf("lab: waiting for a report about %s: %w; there are:\n%s", domain, err,
			l.reports.tail(5, ""))
	}
	return line, nil
}

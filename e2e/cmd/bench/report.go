package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"
)

// report writes Markdown that reads well in a terminal, there and into a text.
type report struct {
	to   io.Writer
	kept strings.Builder
}

func (r *report) String() string { return r.kept.String() }

func (r *report) write(s string) {
	r.kept.WriteString(s)
	_, _ = io.WriteString(r.to, s) // it is in the file as well
}

// text writes paragraphs.
func (r *report) text(paragraphs ...string) {
	for _, p := range paragraphs {
		if r.kept.Len() > 0 {
			r.write("\n")
		}
		r.write(p + "\n")
	}
}

// table writes a table; every column but the first is of figures.
func (r *report) table(rows ...[]string) {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], len([]rune(cell)), 3)
		}
	}
	r.write("\n")
	for n, row := range rows {
		for i, cell := range row {
			pad := strings.Repeat(" ", widths[i]-len([]rune(cell)))
			if i == 0 {
				r.write("| " + cell + pad + " |")
			} else {
				r.write(" " + pad + cell + " |")
			}
		}
		r.write("\n")
		if n > 0 {
			continue
		}
		for i, w := range widths {
			if i == 0 {
				r.write("|" + strings.Repeat("-", w+2) + "|")
			} else {
				r.write(strings.Repeat("-", w+1) + ":|")
			}
		}
		r.write("\n")
	}
}

// thousands writes a number with its commas.
func thousands(n float64) string {
	s := fmt.Sprintf("%.0f", n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func micros(d time.Duration) string { return thousands(float64(d.Microseconds())) + " µs" }

func millis(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000) }

// machine says what was measured on what.
func machine(ctx context.Context, policyd string) string {
	version, err := exec.CommandContext(ctx, policyd, "version").Output()
	if err != nil {
		version = []byte("version unknown")
	}
	first, _, _ := strings.Cut(strings.TrimSpace(string(version)), "\n")
	return fmt.Sprintf("Measured on %s, %d cores, %s/%s, %s; %s. Load average before: %s. Only the ratios in one run compare.",
		cpu(), runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, runtime.Version(), first, busy())
}

// busy is the load average over one minute: what else runs on the machine has a part in every figure.
func busy() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	first, _, _ := strings.Cut(string(text), " ")
	return first
}

// cpu returns the model of the processor, as far as Linux tells.
func cpu() string {
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return "a processor of unknown make"
	}
	defer func() { _ = f.Close() }()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if name, value, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "a processor of unknown make"
}

package main

import (
	"fmt"
	"html"
	"regexp"
	"strings"
)

// Sizes in pixels.
const (
	fontSize   = 14
	charWidth  = 843 // in hundredths
	lineHeight = 19
	margin     = 16
	mostLines  = 34 // longer output is cut, like at the end of a terminal
)

var (
	style = regexp.MustCompile("\x1b\\[([0-9;]*)m")
	other = regexp.MustCompile("\x1b\\[[0-9;?]*[A-Za-ln-z]")
)

// class returns the CSS class of an ECMA-48 code; any other code ends a style.
func class(code string) string {
	return map[string]string{"1": "b", "31": "r", "32": "g", "33": "y", "36": "c"}[code]
}

// svg draws a command and its output as a terminal shows them.
func svg(command, output string) string {
	var lines []string
	for line := range strings.Lines(command + "\n" + output) {
		line = strings.TrimRight(line, "\r\n")
		line = line[strings.LastIndexByte(line, '\r')+1:] // a progress line is overwritten
		lines = append(lines, other.ReplaceAllString(line, ""))
	}
	for len(lines) > 0 && strings.TrimSpace(lines[len(lines)-1]) == "" {
		lines = lines[:len(lines)-1]
	}
	if len(lines) > mostLines {
		lines = append(lines[:mostLines-1], "…")
	}
	width, height := columns*charWidth/100+2*margin, len(lines)*lineHeight+2*margin
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %[1]d %[2]d">
<style>text{font:%dpx ui-monospace,'DejaVu Sans Mono',Menlo,Consolas,monospace;fill:#d8dee9;white-space:pre}
.b{font-weight:bold;fill:#fff}.r{fill:#f07178}.g{fill:#a3d977}.y{fill:#ffcb6b}.c{fill:#7fdbca}</style>
<rect width="100%%" height="100%%" rx="8" fill="#1d2330"/>
`, width, height, fontSize)
	for i, line := range lines {
		fmt.Fprintf(&b, "<text x=\"%d\" y=\"%d\" xml:space=\"preserve\">%s</text>\n", margin,
			margin+fontSize+i*lineHeight, spans(line, i == 0))
	}
	b.WriteString("</svg>\n")
	return b.String()
}

// spans converts the styles of a line.
func spans(line string, bold bool) string {
	if bold {
		return `<tspan class="b">` + html.EscapeString(line) + "</tspan>"
	}
	var b strings.Builder
	now, from := "", 0
	write := func(text string) {
		switch text = html.EscapeString(text); {
		case text == "":
		case now == "":
			b.WriteString(text)
		default:
			b.WriteString(`<tspan class="` + now + `">` + text + "</tspan>")
		}
	}
	for _, m := range style.FindAllStringSubmatchIndex(line, -1) {
		write(line[from:m[0]])
		now, from = class(line[m[2]:m[3]]), m[1]
	}
	write(line[from:])
	return b.String()
}

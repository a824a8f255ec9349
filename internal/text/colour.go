package text

// Style is a code of ECMA-48, section 8.3.117. The zero value changes nothing.
type Style string

// The styles that commands use.
const (
	Bold   Style = "1"
	Red    Style = "31"
	Green  Style = "32"
	Yellow Style = "33"
	Cyan   Style = "36"
)

// Palette reports whether text is coloured. The zero value leaves text as it is.
type Palette bool

// Paint returns s in a style, if the palette has colours.
func (p Palette) Paint(style Style, s string) string {
	if !bool(p) || style == "" {
		return s
	}
	return "\x1b[" + string(style) + "m" + s + "\x1b[0m"
}

package text

import "strings"

// Nearest returns the candidate that a word was probably meant to be, or "" if none is close. Upper and lower case
// count as the same, and so do "_" and "-".
func Nearest(word string, candidates []string) string {
	const lettersPerMistake, maxMistakes = 3, 5
	fold := func(s string) string { return strings.ReplaceAll(strings.ToLower(s), "_", "-") }
	word = fold(word)
	for n := range min(max(len(word)/lettersPerMistake, 1), maxMistakes) + 1 {
		for _, c := range candidates {
			if n < len(c) && near(word, fold(c), n) {
				return c
			}
		}
	}
	return ""
}

// near reports whether a becomes b when at most n letters are inserted, deleted, replaced or swapped with their
// neighbour.
func near(a, b string, n int) bool {
	for a != "" && b != "" && a[0] == b[0] {
		a, b = a[1:], b[1:]
	}
	switch {
	case a == b:
		return true
	case n == 0:
		return false
	case a == "" || b == "":
		return len(a)+len(b) <= n
	}
	swapped := len(a) > 1 && len(b) > 1 && a[0] == b[1] && a[1] == b[0]
	return near(a[1:], b[1:], n-1) || near(a[1:], b, n-1) || near(a, b[1:], n-1) || swapped && near(a[2:], b[2:], n-1)
}

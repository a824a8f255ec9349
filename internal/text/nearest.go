package text

import "strings"

// Nearest returns the candidate that a word was probably meant to be, or "" if none is close. Upper and lower case
// count as the same, and so do "_" and "-".
func Nearest(word string, candidates []string) string {
	const longest = 64
	if word == "" || len(word) > longest {
		return ""
	}
	const perMistake = 3 // one mistake per three letters
	nearest, least := "", max(len(word)/perMistake, 1)+1
	for _, c := range candidates {
		if d := distance(fold(word), fold(c)); d < least && d < len(c) {
			nearest, least = c, d
		}
	}
	return nearest
}

func fold(s string) string { return strings.ReplaceAll(strings.ToLower(s), "_", "-") }

// distance is the number of letters to insert, delete, replace or swap with their neighbour that turns a into b.
func distance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			replace := rows[i-1][j-1]
			if a[i-1] != b[j-1] {
				replace++
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, replace)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}

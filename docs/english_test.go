package docs_test

import (
	"fmt"
	"go/ast"
	"go/token"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// patterns are expressions that make a text hard to read, above all in a foreign language, with what to write in their
// place. The list is short on purpose: it catches habits, not every mistake.
var patterns = []struct {
	expression *regexp.Regexp
	except     *regexp.Regexp // matches that are fine; nil: none
	instead    string
}{
	{regexp.MustCompile(`(?i)\b(nobody|somebody|everybody|anybody|whoever)\b`), nil, "name the actor: Postfix, an attacker, the caller, anyone who"},
	{regexp.MustCompile(`\b(is|are|was|were) to be\b`), nil, "must be, should be"},
	{regexp.MustCompile(`\b\w+ (is|are) (no|none of) \w+`), regexp.MustCompile(`(?i)^(there|if|it) |(is|are) no (longer|more|less|such|later|better)\b`), "is not a"},
	{regexp.MustCompile(`\bthat there (is|are) not\b`), nil, "unknown, missing"},
	{regexp.MustCompile(`\bat once\b`), nil, "immediately, or concurrently"},
	{regexp.MustCompile(`\bbut (in|for) (tests?|a|the|one|those|it|this)\b`), nil, "except"},
	{regexp.MustCompile(`\b(mend(s|ed|ing)?|anew|in vain|taken? for (a|an|the)|by heart|meanwhile|for ever)\b`), nil, "fix, again, treated as, from its cache, indefinitely"},
	{regexp.MustCompile(`\b(droughts?|patience|hand of the clock|worldly|landings?|strangers?|floors? of|the house)\b`), nil, "outage, timeout, eviction pointer, result, untrusted senders, layer, the code"},
	{regexp.MustCompile(`(^|[.:;,] )(W|w)ho(ever)? (is|has|can|may|sits|adds|asks|sends|knows|makes|forges|reads|reaches|wants)\b[^?]*$`), nil, "anyone who, an attacker who, a client that"},
	{regexp.MustCompile(`(^|[.:;] )What (is|has|was|cannot|can|came|failed|clients|makes|they|it|that|they)\b[^?:]*$`), nil, "begin with a noun"},
	{regexp.MustCompile(`\b(says?|tells?|said|told|hears?|heard) (of|whether|so)\b|\b(is|are|was|were) told\b|\bbelieve[sd]?\b`), nil, "reports whether, is notified, trusts"},
	{regexp.MustCompile(`\b[0-9]+(,[0-9]{3})* [a-zA-Z]+ (a|an|each) (second|minute|hour|day|line|request|record|query|lookup)\b|\bone a (line|minute|second)\b`), nil, "per"},
	{regexp.MustCompile(`\bof (before|ours|theirs)\b`), nil, "previous, our"},
	{regexp.MustCompile(`\b(goes on|go on|holds up|looks? on)\b`), nil, "continues, blocks, observes"},
	{regexp.MustCompile(`(?i)\bclear text\b`), nil, "plaintext"},
	{regexp.MustCompile(`\bfor people\b`), nil, "human-readable"},
}

// TestEnglish finds the patterns in comments, strings and documents. testdata/english-todo.txt lists the files that
// have not been rewritten yet. With -update the files without a match are removed from it; none is ever added, so the
// list shrinks. testdata/english-quotes.txt lists texts of others that are quoted as they are.
func TestEnglish(t *testing.T) {
	t.Parallel()
	todo, quotes := lines(t, "english-todo.txt"), lines(t, "english-quotes.txt")
	var found []string
	walk(t, func(path string) {
		if strings.HasPrefix(path, "docs/english_test.go") {
			return
		}
		matches := violations(t, path, quotes)
		if len(matches) == 0 {
			return
		}
		found = append(found, path)
		if !slices.Contains(todo, path) && !*update {
			t.Errorf("hard to read (docs/english_test.go has the patterns):\n%s", strings.Join(matches, "\n"))
		}
	}, ".")
	if *update {
		left := slices.DeleteFunc(todo, func(path string) bool { return !slices.Contains(found, path) })
		require.NoError(t, os.WriteFile("testdata/english-todo.txt", []byte(strings.Join(append(left, ""), "\n")), 0o600))
		return
	}
}

func lines(t *testing.T, name string) []string {
	t.Helper()
	text, err := os.ReadFile("testdata/" + name)
	require.NoError(t, err)
	return slices.DeleteFunc(strings.Split(string(text), "\n"), func(line string) bool { return line == "" || line[0] == '#' })
}

// passage is a piece of text and where it begins.
type passage struct {
	line int
	text string
}

// violations returns the matches in a file, one per line of the result.
func violations(t *testing.T, path string, quotes []string) []string {
	t.Helper()
	var passages []passage
	switch {
	case strings.HasSuffix(path, ".go"):
		passages = passagesOfGo(t, path)
	case strings.HasSuffix(path, ".md"), strings.HasSuffix(path, ".example"), strings.HasSuffix(path, ".toml"),
		strings.HasSuffix(path, ".service"), strings.HasSuffix(path, ".socket"), path == "Makefile", path == "packaging/overrides":
		passages = passagesOfText(read(t, path))
	}
	var found []string
	for _, p := range passages {
		for _, quote := range quotes {
			p.text = strings.ReplaceAll(p.text, quote, "")
		}
		for _, pattern := range patterns {
			for _, match := range pattern.expression.FindAllString(p.text, -1) {
				if pattern.except == nil || !pattern.except.MatchString(match) {
					found = append(found, fmt.Sprintf("%s:%d: %q: write %s", path, p.line, match[:min(len(match), 60)], pattern.instead))
				}
			}
		}
	}
	return found
}

// passagesOfGo returns the comments, joined over their lines, and the strings of more than two words.
func passagesOfGo(t *testing.T, path string) []passage {
	t.Helper()
	f := goFiles(t, path)[0]
	var passages []passage
	for _, c := range f.file.Comments {
		passages = append(passages, passage{f.set.Position(c.Pos()).Line, sentence(c.Text())})
	}
	ast.Inspect(f.file, func(n ast.Node) bool {
		if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
			if text, err := strconv.Unquote(lit.Value); err == nil && strings.Count(text, " ") >= 2 {
				passages = append(passages, passage{f.set.Position(lit.Pos()).Line, sentence(text)})
			}
		}
		return true
	})
	return passages
}

// itemMarker is what an item of a list, or the definition of a term, begins with.
var itemMarker = regexp.MustCompile(`^\s*([-*]|[0-9]+\.|:) +`)

// passagesOfText returns the paragraphs, the items of lists and the cells of tables outside code blocks and quotations.
func passagesOfText(text string) []passage {
	var passages []passage
	var paragraph []string
	code := false
	for i, line := range strings.Split(text+"\n", "\n") {
		if strings.HasPrefix(line, "```") {
			code = !code
			line = ""
		}
		item, row := itemMarker.MatchString(line), strings.HasPrefix(line, "|")
		words := strings.TrimLeft(itemMarker.ReplaceAllString(line, ""), "# \t")
		skipped := code || words == "" || line[0] == '>' || strings.HasPrefix(line, "    ") && !item && len(paragraph) == 0
		if len(paragraph) > 0 && (skipped || item || row) {
			passages = append(passages, passage{i + 1 - len(paragraph), sentence(strings.Join(paragraph, " "))})
			paragraph = nil
		}
		switch {
		case skipped:
		case row:
			for cell := range strings.SplitSeq(line, "|") {
				passages = append(passages, passage{i + 1, sentence(cell)})
			}
		default:
			paragraph = append(paragraph, words)
		}
	}
	return passages
}

func TestListsAndTablesAreRead(t *testing.T) {
	t.Parallel()
	var found []string
	for _, p := range passagesOfText("A first\nparagraph:\n- one\n  item\n- another\n\n**term**\n:   its meaning\n    on two lines\n\n| a | b |\n\n    code\n\n```\nx\n```\n") {
		if p.text != "" {
			found = append(found, fmt.Sprintf("%d %s", p.line, p.text))
		}
	}
	require.Equal(t, []string{"1 A first paragraph:", "3 one item", "5 another", "7 **term**", "8 its meaning on two lines", "11 a", "11 b"}, found)
}

// sentence joins lines.
func sentence(text string) string { return strings.Join(strings.Fields(text), " ") }

package docs_test

import (
	"fmt"
	"go/ast"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// pattern is an expression to avoid.
type pattern struct {
	expression *regexp.Regexp
	except     *regexp.Regexp // matches that are fine; nil: none
	instead    string
}

// matches returns what the pattern finds in a text.
func (p pattern) matches(text string) []string {
	return slices.DeleteFunc(p.expression.FindAllString(text, -1), func(match string) bool {
		return p.except != nil && p.except.MatchString(match)
	})
}

// patterns are expressions that make a text hard to read, above all in a foreign language, with what to write in their
// place. The list is short on purpose: it catches habits, not every mistake.
var patterns = []pattern{
	{regexp.MustCompile(`(?i)\b(nobody|somebody|everybody|anybody|whoever|everyone|no one)\b`), nil, "name the actor: Postfix, an attacker, the caller, anyone who"},
	{regexp.MustCompile(`\b(is|are|was|were) to be\b`), nil, "must be, should be"},
	{regexp.MustCompile(`\S+ (is|are) (no|none of) \w+|\bthat (is|are) none\b`), regexp.MustCompile(`(?i)^\W*(\S*there|if|it) |(is|are) no (longer|more|less|such|later|better)\b`), "is not a"},
	{regexp.MustCompile(`\b(that there (is|are) not|what there (is|are))\b`), nil, "unknown, missing, existing"},
	{regexp.MustCompile(`(?i)\bat once\b`), nil, "immediately, or concurrently"},
	{regexp.MustCompile(`\bbut (in|for) (tests?|a|the|one|those|it|this)\b`), nil, "except"},
	{regexp.MustCompile(`(?i)\b(mend(s|ed|ing)?|anew|in vain|taken? for (a|an|the)|by heart|meanwhile|in the meantime|for ever|hitherto|whence)\b`), nil, "fix, again, treated as, from its cache, until then, indefinitely"},
	{regexp.MustCompile(`(?i)\b(droughts?|patience|hand of the clock|(a|the|another|this) worlds?|worldly|landings?|strangers?|floors? of|the house|in flight|by its neighbours?)\b`), nil, "outage, timeout, eviction pointer, epoch, result, untrusted senders, layer, the code, in progress, concurrent processes"},
	{regexp.MustCompile(`((^|[.:;,] )(W|w)|\b(by|to|of|with|from|for|and) w)ho(ever)? (is|has|can|may|sits|adds|asks|sends|knows|makes|forges|reads|reaches|wants)\b[^?]*$`), nil, "anyone who, an attacker who, a client that"},
	{regexp.MustCompile(`(^|[.:;] )What (is|has|was|cannot|can|came|failed|clients|makes|they|it|that|they)\b[^?:]*$|\bwhat that (found|did|has|had|was)\b`), nil, "begin with a noun"},
	{regexp.MustCompile(`\b(says?|tells?|said|told|hears?|heard) (of|whether|so|how|when|where|which|what|who|that|it)\b|\b(is|are|was|were) told\b|\btells\b|\bbelieve[sd]?\b`), regexp.MustCompile(`^said it$`), "reports whether, is notified, distinguishes, trusts"},
	{regexp.MustCompile(`\bknows? (of|about|whether|that)\b`), nil, "has, stores, has found out"},
	{regexp.MustCompile(`\b(has|have|having|had) (it|them|him|each|f) (\w+ed|written?|read|sent|done|made|closed|kept|run|say|take)\b|\bwants (a|an|the|it|them)( \w+)? \w+ed\b`), nil, "does it: name the actor"},
	{regexp.MustCompile(`\b[0-9]+(,[0-9]{3})* [a-zA-Z]+ (a|an|each) (second|minute|hour|day|line|request|record|query|lookup)\b|\bone a (line|minute|second)\b|\bone (for )?each [a-z0-9]+`), nil, "per"},
	{regexp.MustCompile(`\bof (before|ours|theirs)\b|\bof the \w+ of the \w+ of\b`), nil, "previous, our; a shorter chain"},
	{regexp.MustCompile(`\b(goes on|go on|holds? up|hold(s|ing)? \w+ up|looks? on|stands? in (a|an|the|it|its)|lies? (in|at|below|beside)|takes? \w+ \w+ for an?)\b`), nil, "continues, blocks, observes, is, treats as"},
	{regexp.MustCompile(`\b(answers|runs|fails|works|waits|is (down|silent|missing)) since [0-9]`), nil, "has answered since"},
	{regexp.MustCompile(`\bgiven up: |\bthere (is|was) no more time\b`), nil, "deadline exceeded"},
	{regexp.MustCompile(`(?i)\bclear ?text\b`), nil, "plaintext"},
	{regexp.MustCompile(`\bfor people\b`), nil, "human-readable"},
}

// metaphors are words that no identifier may have.
var metaphors = regexp.MustCompile(`\b(droughts?|patient|patience|hasty|worlds?|worldly|landings?|strangers?|house|mend(s|ed)?|anew|nobody|somebody|whoever)\b`)

// TestEnglish finds the patterns in comments, strings, names of tests, documents, scripts and shipped files. testdata/english-todo.txt lists the files that
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
	var found []string
	switch {
	case strings.HasSuffix(path, ".go"):
		passages, found = passagesOfGo(t, path)
	case !slices.Contains([]string{".png", ".svg", ".sum", ".mod"}, filepath.Ext(path)) && path != "LICENSE":
		passages = passagesOfText(read(t, path))
	}
	for _, p := range passages {
		for _, quote := range quotes {
			p.text = strings.ReplaceAll(p.text, quote, "")
		}
		for _, pattern := range patterns {
			for _, match := range pattern.matches(p.text) {
				found = append(found, fmt.Sprintf("%s:%d: %q: write %s", path, p.line, match[:min(len(match), 60)], pattern.instead))
			}
		}
	}
	return found
}

// passagesOfGo returns the comments, joined over their lines, the strings of more than two words, and the names of the
// tests as words. It also returns the declared names that have a metaphor.
func passagesOfGo(t *testing.T, path string) (passages []passage, found []string) {
	t.Helper()
	f := goFiles(t, path)[0]
	for _, c := range f.file.Comments {
		passages = append(passages, passage{f.set.Position(c.Pos()).Line, sentence(c.Text())})
	}
	declared := func(name *ast.Ident) {
		if words := wordsOf(name.Name); metaphors.MatchString(words) {
			found = append(found, fmt.Sprintf("%s:%d: %s: use the standard term", path, f.set.Position(name.Pos()).Line, name.Name))
		}
	}
	ast.Inspect(f.file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.BasicLit:
			if text, err := strconv.Unquote(n.Value); n.Kind == token.STRING && err == nil && strings.Count(text, " ") >= 2 {
				passages = append(passages, passage{f.set.Position(n.Pos()).Line, sentence(text)})
			}
		case *ast.FuncDecl:
			declared(n.Name)
			if strings.HasPrefix(n.Name.Name, "Test") {
				passages = append(passages, passage{f.set.Position(n.Pos()).Line, wordsOf(n.Name.Name)})
			}
		case *ast.TypeSpec:
			declared(n.Name)
		case *ast.ValueSpec:
			for _, name := range n.Names {
				declared(name)
			}
		case *ast.Field:
			for _, name := range n.Names {
				declared(name)
			}
		case *ast.AssignStmt:
			for _, left := range n.Lhs {
				if name, ok := left.(*ast.Ident); ok && n.Tok == token.DEFINE {
					declared(name)
				}
			}
		}
		return true
	})
	return passages, found
}

var capital = regexp.MustCompile(`([a-z])([A-Z0-9])|([A-Z0-9])([A-Z][a-z])`)

// wordsOf returns the words of a name such as TestTheTTLIsCapped, in lower case.
func wordsOf(name string) string {
	return strings.ToLower(capital.ReplaceAllString(capital.ReplaceAllString(name, "$1$3 $2$4"), "$1$3 $2$4"))
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

// TestPatterns has an example for each row of the table of patterns in the guide of style, except for telegram style and for
// pronouns without a noun, which no expression can find.
func TestPatterns(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{
		"who sits on the path strips one line", "mail is read by who sits there", "What is not known stays so", "what that found is not in this",
		"Nobody asks it yet", "Whoever may open the socket", "everybody", "Errors are to be fixed", `"loud" is none of debug, info`, "this is no host name",
		"a map that there is not", "it uses what there is", "update has it written", "a caller wants a host probed",
		"reports what it says of a domain", "says whether it is open", "tells when it ends", "the watchdog is told", "policyd believes a resolver",
		"the cache knows of a name", "the settings of before", "a setting of ours", "the end of the name of the host of a mail",
		"given up: there was no more time", "one a line", "10 connections a second", "one for each 64 KiB", "one each minute",
		"mend them", "begin anew", "wait for ever", "in vain", "taken for a file", "by heart", "meanwhile", "At once", "read all at once",
		"25 but in tests", "all but for the first", "look on", "it stands in the file", "it lies in the directory", "it goes on", "it holds up mail",
		"it holds mail up", "takes a file for a directory", "no DNS server answers since 14:02", "the house", "one of the floors of the code",
		"of a world that ended", "patience", "drought", "in flight", "landing", "hand of the clock", "Strangers", "by its neighbours",
		"clear text", "cleartext", "a format for people",
	} {
		require.True(t, slices.ContainsFunc(patterns, func(p pattern) bool { return len(p.matches(bad)) > 0 }), bad)
	}
	require.Equal(t, "test a panic is not an answer", wordsOf("TestAPanicIsNotAnAnswer"))
	require.Equal(t, "test the ttl of dane is 5", wordsOf("TestTheTTLOfDANEIs5"))
	require.True(t, metaphors.MatchString(wordsOf("isStranger")))
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

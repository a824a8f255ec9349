package settings

import (
	"bytes"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"
)

// spans are where the tables and values of a document stand: by full key, and by "key[0]" for the elements of a list.
type spans map[string]unstable.Range

// locate finds the values of a document that has been decoded before, so it cannot fail.
func locate(document []byte) spans {
	found := spans{}
	p := unstable.Parser{}
	p.Reset(document)
	table := ""
	for p.NextExpression() {
		e := p.Expression()
		switch e.Kind {
		case unstable.Table, unstable.ArrayTable:
			var at unstable.Range
			table, at = keyOf(e)
			found[table] = at
		case unstable.KeyValue:
			found.add(table, e)
		default:
		}
	}
	return found
}

// add finds the values below one key.
func (s spans) add(table string, e *unstable.Node) {
	key, at := keyOf(e)
	if table != "" {
		key = table + "." + key
	}
	value := e.Value()
	s[key] = at
	switch value.Kind {
	case unstable.InlineTable:
		for it := value.Children(); it.Next(); {
			if it.Node().Kind == unstable.KeyValue {
				s.add(key, it.Node())
			}
		}
	case unstable.Array:
		n := 0
		for it := value.Children(); it.Next(); {
			if it.Node().Kind == unstable.Comment {
				continue
			}
			if it.Node().Raw.Length > 0 {
				s[key+"["+strconv.Itoa(n)+"]"] = it.Node().Raw
			}
			n++
		}
	default:
		if value.Raw.Length > 0 {
			s[key] = value.Raw
		}
	}
}

// keyOf returns the key of a table or of a value, and where it stands.
func keyOf(e *unstable.Node) (string, unstable.Range) {
	var parts []string
	var at unstable.Range
	for it := e.Key(); it.Next(); {
		parts = append(parts, string(it.Node().Data))
		at = it.Node().Raw
	}
	return strings.Join(parts, "."), at
}

// problem is what is wrong at a key, or at an element of a list.
func (s spans) problem(document []byte, key, text string) Problem {
	at, ok := s[key]
	if !ok {
		key, _, _ = strings.Cut(key, "[")
		if at, ok = s[key]; !ok {
			return Problem{Text: text}
		}
	}
	before := document[:at.Offset]
	line := bytes.Count(before, []byte("\n")) + 1
	return Problem{
		Line: line, Column: int(at.Offset) - bytes.LastIndexByte(before, '\n'), Width: int(at.Length),
		Source: lineOf(document, line), Text: text,
	}
}

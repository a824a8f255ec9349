package admin

import (
	"reflect"
	"strings"

	"github.com/policyd/policyd/internal/text"
)

// clean replaces characters that could control a terminal in every string of v, which is a pointer. A client runs it on
// all that comes from the socket: whatever answers there may not be policyd.
func clean(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			clean(v.Elem())
		}
	case reflect.Struct:
		for _, f := range v.Fields() {
			if f.CanSet() {
				clean(f)
			}
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 { // a json.RawMessage
			v.SetBytes([]byte(Visible(string(v.Bytes()))))
			return
		}
		for i := range v.Len() {
			clean(v.Index(i))
		}
	case reflect.Map:
		cleanMap(v)
	case reflect.String:
		v.SetString(Visible(v.String()))
	default: // numbers and the like
	}
}

// cleanMap replaces the entries of a map, which cannot be changed in place.
func cleanMap(v reflect.Value) {
	if v.IsNil() {
		return
	}
	cleaned := reflect.MakeMapWithSize(v.Type(), v.Len())
	for it := v.MapRange(); it.Next(); {
		key, value := reflect.New(it.Key().Type()).Elem(), reflect.New(it.Value().Type()).Elem()
		key.Set(it.Key())
		value.Set(it.Value())
		clean(key)
		clean(value)
		cleaned.SetMapIndex(key, value)
	}
	v.Set(cleaned)
}

// Visible is text.Visible for text of several lines, such as an error that shows a line of a settings file.
func Visible(s string) string {
	lines := strings.Split(s, "\n")
	for i, line := range lines {
		lines[i] = text.Visible(line)
	}
	return strings.Join(lines, "\n")
}

// DomainOf returns the domain of an e-mail address, and any other argument as it is: no local part is shown or logged.
func DomainOf(arg string) string { return arg[strings.LastIndexByte(arg, '@')+1:] }

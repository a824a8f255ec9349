package main

import (
	"os"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
)

// A build without go.mod must have the same defaults of TLS and HTTP as one with it.
func TestTheDefaultsOfGoAreThoseOfGoMod(t *testing.T) {
	find := func(file, expression string) string {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		found := regexp.MustCompile(expression).FindSubmatch(text)
		require.NotNil(t, found, file)
		return string(found[1])
	}
	require.Equal(t, find("../../go.mod", `(?m)^go (\d+\.\d+)`), find("main.go", `(?m)^//go:debug default=go(\S+)$`))
}

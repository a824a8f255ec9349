package daemon

import "github.com/policyd/policyd/cmd/policyd/internal/settings"

// load reads the settings, and adds the warnings that depend on this process.
func (o *Options) load() (*settings.Loaded, error) {
	l, err := settings.Load(o.ConfigPath)
	if err != nil {
		return nil, err
	}
	var passed []string
	for _, p := range o.Passed {
		passed = append(passed, addressOf(p))
	}
	l.Warnings = append(l.Warnings, l.UnusedListen(passed)...)
	return l, nil
}

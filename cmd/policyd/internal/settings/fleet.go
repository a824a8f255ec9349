package settings

import (
	"fmt"
	"log/slog"
	"net/url"
	"os"

	"github.com/policyd/policyd/internal/fleet"
	"github.com/policyd/policyd/internal/regfile"
)

// SharedFleet returns the options of the fleet without the shared stores. Nothing is shared if the URL is empty.
func (l *Loaded) SharedFleet(log *slog.Logger) fleet.Options {
	return fleet.Options{
		URL: l.Fleet.URL, Keys: l.FleetKeys, Prefix: l.Fleet.Prefix, Pull: durationOf(l.Fleet.Pull), Log: log,
	}
}

// Redacted returns the settings without the password in fleet.url.
func (s Settings) Redacted() Settings {
	if u, err := url.Parse(s.Fleet.URL); err == nil && s.Fleet.URL != "" {
		s.Fleet.URL = u.Redacted()
	}
	return s
}

func fleetURL(s string) bool { return fleet.CheckURL(s) == nil }

// readFleetKeys fills in FleetKeys, if something is shared, and adds the mistakes in the settings of the key files.
func (l *Loaded) readFleetKeys(add func(setting, what string)) {
	if l.Fleet.URL == "" {
		return
	}
	if l.Fleet.KeyFile == "" {
		add("fleet.url", `a site key is required: make one with "policyd fleet key" and write the path of its file as `+
			"key_file")
	}
	if err := l.readFleetKey(l.Fleet.KeyFile); err != nil {
		add("fleet.key_file", err.Error())
	}
	if err := l.readFleetKey(l.Fleet.PreviousKeyFile); err != nil {
		add("fleet.previous_key_file", err.Error())
	}
}

// readFleetKey adds the site key in a file to FleetKeys. Other users of this machine must not be able to read the file.
func (l *Loaded) readFleetKey(path string) error {
	if path == "" {
		return nil
	}
	text, err := regfile.Read(path)
	if err != nil {
		return fmt.Errorf("%s cannot be read: %s", path, cause(err))
	}
	key, err := fleet.ParseKey(text)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if info, err := os.Stat(path); err == nil && info.Mode().Perm()&0o007 != 0 {
		return fmt.Errorf("%s can be read by every user of this machine: chmod 0640 it", path)
	}
	l.FleetKeys = append(l.FleetKeys, key)
	return nil
}

// Package settings reads policyd.toml. An unknown key or a bad value is an *Error that names the line and what to
// write; one Error has every mistake in the file. The table of all settings (table.go) is their only documentation:
// `policyd config show`, the annotated file and policyd.toml(5) are made from it.
package settings

import (
	"encoding/json"

	"github.com/pelletier/go-toml/v2"

	"github.com/policyd/policyd/internal/fleet"
	"github.com/policyd/policyd/internal/policy"
	"github.com/policyd/policyd/internal/roots"
)

// The default files. Neither has to exist.
const (
	DefaultPath      = "/etc/policyd/policyd.toml"
	defaultOverrides = "/etc/policyd/overrides"
)

// Settings are the settings as the file has them. The table has their names, defaults and documentation.
type Settings struct {
	Mode, Overrides string
	Server          struct {
		Listen                                             []string
		SocketMode, SocketGroup, IdleTimeout, DrainTimeout string
		MaxConnections                                     int
	}
	DNS struct {
		Servers, SelfTest               []string
		TrustAD, Timeout, SecondOpinion string
	}
	Cache struct {
		MaxEntries int
		StateDir   string
	}
	Policy struct {
		UnsignedMX, MixedMX string
		DANE, MTASTS        bool
	}
	MTASTS   struct{ ProxyFromEnvironment bool }
	Promises struct{ Vanished string }
	Fleet    struct{ URL, KeyFile, PreviousKeyFile, Prefix, Pull string }
	Port26   struct {
		Port                            int
		Mode, Transport, Wait, HeloName string
		ExcludeDomains, OwnHosts        []string
		ProbeSpecialAddresses           bool
	}
	TLS     struct{ CAFile string }
	Admin   struct{ Socket string }
	HTTP    struct{ Listen string }
	Metrics struct{ Listen string }
	Log     struct{ Level, Format, Lookups string }
}

// Default returns the settings of an empty file.
func Default() (s Settings) {
	for _, r := range s.rows() {
		r.value.Set(r.byDefault)
	}
	return s
}

// MarshalJSON returns the settings by their names in the file.
func (s Settings) MarshalJSON() ([]byte, error) {
	var all map[string]any
	if err := toml.Unmarshal([]byte(s.TOML()), &all); err != nil {
		return nil, err
	}
	return json.Marshal(all)
}

// Loaded is a settings file that was read and checked, with the files that it names. It is immutable.
type Loaded struct {
	Settings
	// Path is the settings file, and Found whether there is one.
	Path  string
	Found bool
	// Rules are the lines of the overrides file.
	Rules policy.Overrides
	// Roots are the root certificates of ca_file, or else of the system.
	Roots roots.Set
	// FleetKeys are the site key and, during a change of keys, the previous one; none without fleet.url.
	FleetKeys []fleet.Key
	// Mistakes are those in the files, and Warnings are about settings that are valid and may still be mistakes.
	Mistakes []Problem
	Warnings []string

	lines map[string]int // where keys are set and tables begin in the file
}

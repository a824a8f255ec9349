// Package settings reads policyd.toml. An unknown key or a bad value is an *Error that names the line and what to
// write; one Error has every mistake in the file. The table of all settings (table.go) is their only documentation:
// `policyd config show`, the annotated file and policyd.toml(5) are made from it.
package settings

import (
	"crypto/x509"
	"net/url"

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
	Mode      string `json:"mode"`
	Overrides string `json:"overrides"`
	Server    struct {
		Listen         []string `json:"listen"`
		SocketMode     string   `json:"socket_mode"`
		SocketGroup    string   `json:"socket_group"`
		MaxConnections int      `json:"max_connections"`
		IdleTimeout    string   `json:"idle_timeout"`
		DrainTimeout   string   `json:"drain_timeout"`
	} `json:"server"`
	DNS struct {
		Servers       []string `json:"servers"`
		TrustAD       string   `json:"trust_ad"`
		Timeout       string   `json:"timeout"`
		SelfTest      []string `json:"self_test"`
		SecondOpinion string   `json:"second_opinion"`
	} `json:"dns"`
	Cache struct {
		MaxEntries int    `json:"max_entries"`
		StateDir   string `json:"state_dir"`
	} `json:"cache"`
	Policy struct {
		UnsignedMX string `json:"unsigned_mx"`
		MixedMX    string `json:"mixed_mx"`
		DANE       bool   `json:"dane"`
		MTASTS     bool   `json:"mta_sts"`
	} `json:"policy"`
	MTASTS struct {
		ProxyFromEnvironment bool `json:"proxy_from_environment"`
	} `json:"mta_sts"`
	Promises struct {
		Vanished string `json:"vanished"`
	} `json:"promises"`
	Fleet struct {
		URL             string `json:"url"`
		KeyFile         string `json:"key_file"`
		PreviousKeyFile string `json:"previous_key_file"`
		Prefix          string `json:"prefix"`
		Pull            string `json:"pull"`
	} `json:"fleet"`
	Port26 struct {
		Mode                  string   `json:"mode"`
		Port                  int      `json:"port"`
		Transport             string   `json:"transport"`
		Wait                  string   `json:"wait"`
		ExcludeDomains        []string `json:"exclude_domains"`
		OwnHosts              []string `json:"own_hosts"`
		HeloName              string   `json:"helo_name"`
		ProbeSpecialAddresses bool     `json:"probe_special_addresses"`
	} `json:"port26"`
	TLS struct {
		CAFile string `json:"ca_file"`
	} `json:"tls"`
	Admin struct {
		Socket string `json:"socket"`
	} `json:"admin"`
	HTTP struct {
		Listen string `json:"listen"`
	} `json:"http"`
	Metrics struct {
		Listen string `json:"listen"`
	} `json:"metrics"`
	Log struct {
		Level   string `json:"level"`
		Format  string `json:"format"`
		Lookups string `json:"lookups"`
	} `json:"log"`
}

// Default returns the settings of an empty file.
func Default() (s Settings) {
	for _, r := range s.rows() {
		r.value.Set(r.byDefault)
	}
	return s
}

// Redacted returns the settings without the password in fleet.url.
func (s Settings) Redacted() Settings {
	if u, err := url.Parse(s.Fleet.URL); err == nil && s.Fleet.URL != "" {
		s.Fleet.URL = u.Redacted()
	}
	return s
}

// Loaded is a settings file that was read and checked, with the files that it names. It is immutable.
type Loaded struct {
	Settings
	// Path is the settings file, and Found whether there is one.
	Path  string
	Found bool
	// Rules are the lines of the overrides file.
	Rules policy.Overrides
	// Roots are the root certificates of ca_file, or else of the system. It is never nil.
	Roots *x509.CertPool
	// FleetKeys are the site key and, during a change of keys, the previous one; none without fleet.url.
	FleetKeys []fleet.Key
	// Warnings are about settings that are valid and may still be mistakes.
	Warnings []string

	document *document // the text of the file
	roots    *roots.Set
}

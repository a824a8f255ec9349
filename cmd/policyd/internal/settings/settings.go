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

// Settings are the settings as the file has them. The table documents each one.
type Settings struct {
	Mode      string   `toml:"mode" json:"mode"`
	Overrides string   `toml:"overrides" json:"overrides"`
	Server    Server   `toml:"server" json:"server"`
	DNS       DNS      `toml:"dns" json:"dns"`
	Cache     Cache    `toml:"cache" json:"cache"`
	Policy    Policy   `toml:"policy" json:"policy"`
	MTASTS    MTASTS   `toml:"mta_sts" json:"mta_sts"`
	Promises  Promises `toml:"promises" json:"promises"`
	Fleet     Fleet    `toml:"fleet" json:"fleet"`
	Port26    Port26   `toml:"port26" json:"port26"`
	TLS       TLS      `toml:"tls" json:"tls"`
	Admin     Admin    `toml:"admin" json:"admin"`
	HTTP      HTTP     `toml:"http" json:"http"`
	Metrics   Metrics  `toml:"metrics" json:"metrics"`
	Log       Log      `toml:"log" json:"log"`
}

// Server is the table [server].
type Server struct {
	Listen         []string `toml:"listen" json:"listen"`
	SocketMode     string   `toml:"socket_mode" json:"socket_mode"`
	SocketGroup    string   `toml:"socket_group" json:"socket_group"`
	MaxConnections int      `toml:"max_connections" json:"max_connections"`
	IdleTimeout    string   `toml:"idle_timeout" json:"idle_timeout"`
	DrainTimeout   string   `toml:"drain_timeout" json:"drain_timeout"`
}

// DNS is the table [dns].
type DNS struct {
	Servers       []string `toml:"servers" json:"servers"`
	TrustAD       string   `toml:"trust_ad" json:"trust_ad"`
	Timeout       string   `toml:"timeout" json:"timeout"`
	SelfTest      []string `toml:"self_test" json:"self_test"`
	SecondOpinion string   `toml:"second_opinion" json:"second_opinion"`
}

// Cache is the table [cache].
type Cache struct {
	MaxEntries int    `toml:"max_entries" json:"max_entries"`
	StateDir   string `toml:"state_dir" json:"state_dir"`
}

// Policy is the table [policy].
type Policy struct {
	UnsignedMX string `toml:"unsigned_mx" json:"unsigned_mx"`
	MixedMX    string `toml:"mixed_mx" json:"mixed_mx"`
	DANE       bool   `toml:"dane" json:"dane"`
	MTASTS     bool   `toml:"mta_sts" json:"mta_sts"`
}

// MTASTS is the table [mta_sts].
type MTASTS struct {
	ProxyFromEnvironment bool `toml:"proxy_from_environment" json:"proxy_from_environment"`
}

// Promises is the table [promises].
type Promises struct {
	Vanished string `toml:"vanished" json:"vanished"`
}

// Fleet is the table [fleet].
type Fleet struct {
	URL             string `toml:"url" json:"url"`
	KeyFile         string `toml:"key_file" json:"key_file"`
	PreviousKeyFile string `toml:"previous_key_file" json:"previous_key_file"`
	Prefix          string `toml:"prefix" json:"prefix"`
	Pull            string `toml:"pull" json:"pull"`
}

// Port26 is the table [port26].
type Port26 struct {
	Mode                  string   `toml:"mode" json:"mode"`
	Port                  int      `toml:"port" json:"port"`
	Transport             string   `toml:"transport" json:"transport"`
	Wait                  string   `toml:"wait" json:"wait"`
	ExcludeDomains        []string `toml:"exclude_domains" json:"exclude_domains"`
	OwnHosts              []string `toml:"own_hosts" json:"own_hosts"`
	HeloName              string   `toml:"helo_name" json:"helo_name"`
	ProbeSpecialAddresses bool     `toml:"probe_special_addresses" json:"probe_special_addresses"`
}

// TLS is the table [tls].
type TLS struct {
	CAFile string `toml:"ca_file" json:"ca_file"`
}

// Admin is the table [admin].
type Admin struct {
	Socket string `toml:"socket" json:"socket"`
}

// HTTP is the table [http].
type HTTP struct {
	Listen string `toml:"listen" json:"listen"`
}

// Metrics is the table [metrics].
type Metrics struct {
	Listen string `toml:"listen" json:"listen"`
}

// Log is the table [log].
type Log struct {
	Level   string `toml:"level" json:"level"`
	Format  string `toml:"format" json:"format"`
	Lookups string `toml:"lookups" json:"lookups"`
}

// Default returns the settings of an empty file.
func Default() Settings {
	return Settings{
		Mode:      "enforce",
		Overrides: defaultOverrides,
		Server: Server{
			Listen: []string{"127.0.0.1:2526"}, SocketMode: "0660", MaxConnections: 4096,
			IdleTimeout: "2m", DrainTimeout: "5s",
		},
		DNS:      DNS{Servers: []string{}, TrustAD: "auto", Timeout: "3s", SelfTest: []string{".", "com."}},
		Cache:    Cache{MaxEntries: 400_000, StateDir: "/var/lib/policyd"},
		Policy:   Policy{UnsignedMX: "secure", MixedMX: "secure", DANE: true, MTASTS: true},
		Promises: Promises{Vanished: "alert"},
		Fleet:    Fleet{Prefix: "policyd:", Pull: "10s"},
		Port26: Port26{
			Mode: "probe", Port: 26, Transport: "smtps26", Wait: "200ms",
			ExcludeDomains: []string{}, OwnHosts: []string{},
		},
		Admin: Admin{Socket: "/run/policyd/admin.sock"},
		Log:   Log{Level: "info", Format: "auto", Lookups: "changes"},
	}
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

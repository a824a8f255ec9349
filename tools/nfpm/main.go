// Command nfpm makes one package from an nfpm configuration: nfpm -config FILE -packager deb|rpm -target DIR. It links
// only the two packagers that policyd needs, which takes a fraction of the time that nfpm's own command takes to
// compile.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"github.com/goreleaser/nfpm/v2"
	_ "github.com/goreleaser/nfpm/v2/deb" // registers the packager
	_ "github.com/goreleaser/nfpm/v2/rpm" // registers the packager
)

func main() {
	config := flag.String("config", "nfpm.yaml", "configuration `file`")
	packager := flag.String("packager", "", "deb or rpm")
	target := flag.String("target", ".", "`directory` of the package")
	flag.Parse()
	file, err := build(*config, *packager, *target)
	if err != nil {
		fmt.Fprintln(os.Stderr, "nfpm:", err)
		os.Exit(1)
	}
	fmt.Println("created package:", file)
}

func build(config, packager, target string) (string, error) {
	parsed, err := nfpm.ParseFileWithEnvMapping(config, os.Getenv)
	if err != nil {
		return "", err
	}
	info, err := parsed.Get(packager)
	if err != nil {
		return "", err
	}
	info = nfpm.WithDefaults(info)
	if err := nfpm.PrepareForPackager(info, packager); err != nil {
		return "", err
	}
	to, err := nfpm.Get(packager)
	if err != nil {
		return "", err
	}
	info.Target = filepath.Join(target, to.ConventionalFileName(info))
	f, err := os.Create(info.Target)
	if err != nil {
		return "", err
	}
	if err := to.Package(info, f); err != nil {
		_ = f.Close()
		_ = os.Remove(info.Target)
		return "", err
	}
	return info.Target, f.Close()
}

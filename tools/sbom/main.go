// Command sbom writes the software bill of materials of Go binaries in CycloneDX: sbom -version VERSION -out FILE
// BINARY...
//
// It reads the modules that the linker recorded in each binary, so the list has the modules that are in the binaries,
// not those in go.mod. It contains neither a time nor a random serial number: the same binaries give the same file.
package main

import (
	"debug/buildinfo"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"runtime/debug"
	"slices"
	"strings"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

func main() {
	version := flag.String("version", "", "version of policyd")
	out := flag.String("out", "", "`file` to write")
	flag.Parse()
	if err := run(*version, *out, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "sbom:", err)
		os.Exit(1)
	}
}

func run(version, out string, binaries []string) (err error) {
	if version == "" || out == "" || len(binaries) == 0 {
		return errors.New("usage: sbom -version VERSION -out FILE BINARY...")
	}
	bom, err := describe(version, binaries)
	if err != nil {
		return err
	}
	f, err := os.Create(out)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return cdx.NewBOMEncoder(f, cdx.BOMFileFormatJSON).SetPretty(true).EncodeVersion(bom, cdx.SpecVersion1_6)
}

// describe returns the modules of all binaries together.
func describe(version string, binaries []string) (*cdx.BOM, error) {
	policyd := cdx.Component{Type: cdx.ComponentTypeApplication, Name: "policyd", Version: version}
	modules := map[string]cdx.Component{} // by their references
	for _, binary := range binaries {
		info, err := buildinfo.ReadFile(binary)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", binary, err)
		}
		policyd.PackageURL = "pkg:golang/" + info.Main.Path + "@" + version
		std := cdx.Component{
			Type: cdx.ComponentTypeLibrary, Name: "std", Version: info.GoVersion, Scope: cdx.ScopeRequired,
			PackageURL: "pkg:golang/std@" + strings.TrimPrefix(info.GoVersion, "go"),
		}
		std.BOMRef = std.PackageURL
		modules[std.BOMRef] = std
		for _, m := range info.Deps {
			c, err := component(m)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", binary, err)
			}
			modules[c.BOMRef] = c
		}
	}
	policyd.BOMRef = policyd.PackageURL
	refs := slices.Sorted(maps.Keys(modules))
	var components []cdx.Component
	for _, ref := range refs {
		components = append(components, modules[ref])
	}
	bom := cdx.NewBOM()
	bom.Metadata = &cdx.Metadata{Component: &policyd}
	bom.Components = &components
	bom.Dependencies = &[]cdx.Dependency{{Ref: policyd.BOMRef, Dependencies: &refs}}
	return bom, nil
}

// component describes a module by the version that was compiled.
func component(m *debug.Module) (cdx.Component, error) {
	if m.Replace != nil {
		m = m.Replace
	}
	c := cdx.Component{
		Type: cdx.ComponentTypeLibrary, Name: m.Path, Version: m.Version, Scope: cdx.ScopeRequired,
		PackageURL: "pkg:golang/" + m.Path + "@" + m.Version,
	}
	c.BOMRef = c.PackageURL
	if m.Sum == "" { // vendored
		return c, nil
	}
	sum, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(m.Sum, "h1:"))
	if err != nil {
		return c, fmt.Errorf("module %s: sum %q: %w", m.Path, m.Sum, err)
	}
	c.Hashes = &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: hex.EncodeToString(sum)}}
	return c, nil
}

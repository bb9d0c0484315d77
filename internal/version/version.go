// Package version says which build of meshd this is.
package version

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// Set by the linker: -X github.com/meshd/meshd/internal/version.version=1.2.3
// and the same for commit and date.
var (
	version string
	commit  string
	date    string
)

// An Info describes a build.
type Info struct {
	Version  string `json:"version"`
	Commit   string `json:"commit"`
	Date     string `json:"date"` // of the commit, RFC 3339
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

// Get describes the running build. What the linker was not told is taken from
// what the go command recorded, which a build outside a checkout has not.
func Get() Info {
	info := Info{
		Version:  version,
		Commit:   commit,
		Date:     date,
		Go:       runtime.Version(),
		Platform: runtime.GOOS + "/" + runtime.GOARCH,
	}
	if build, ok := debug.ReadBuildInfo(); ok {
		info.fill(build.Settings)
	}
	if info.Version == "" {
		info.Version = "dev"
	}
	return info
}

func (i *Info) fill(settings []debug.BuildSetting) {
	for _, s := range settings {
		switch {
		case s.Key == "vcs.revision" && i.Commit == "":
			i.Commit = s.Value
		case s.Key == "vcs.time" && i.Date == "":
			i.Date = s.Value
		}
	}
}

// Version is the version alone, as agents and servers report it.
func Version() string { return Get().Version }

// String gives the build in one line.
func (i Info) String() string {
	line := "meshd " + i.Version
	if i.Commit != "" {
		line += fmt.Sprintf(" (commit %.12s, %s)", i.Commit, i.Date)
	}
	return line + ", " + i.Go + ", " + i.Platform
}

package rootless

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/containers/image/v5/pkg/sysregistriesv2"

	"nomad-driver-podman/finding"
)

const idRegistries = "registries-conf"

// registries is a file in either version of the format.
type registries struct {
	sysregistriesv2.V2RegistriesConf
	sysregistriesv2.V1RegistriesConf
	Aliases map[string]string `toml:"aliases"`
}

// registriesFiles are the files of containers-registries.conf(5). The user's own replaces all of the system's, fragments
// included.
func (u User) registriesFiles(root string) ([]settings, error) {
	main := settings{path: filepath.Join(root, "/etc/containers/registries.conf")}
	var fragments []settings
	replaced := settings{path: u.own("registries.conf"), own: true}
	found, err := u.exists(replaced)
	switch {
	case err != nil:
		return nil, err
	case found:
		main = replaced
	default:
		if fragments, err = u.fragments(main.path+".d", false); err != nil {
			return nil, err
		}
	}
	own, err := u.fragments(u.own("registries.conf.d"), true)
	return append(append([]settings{main}, fragments...), own...), err
}

// FindRegistriesConf looks at where the files of containers-registries.conf(5) let the user's podman look for images.
func (u User) FindRegistriesConf() finding.Finding { return u.findRegistriesConf("") }

// findRegistriesConf looks at the system's files below a root.
func (u User) findRegistriesConf(root string) finding.Finding {
	files, err := u.registriesFiles(root)
	if err != nil {
		return u.broken(idRegistries, err)
	}
	var search []string
	aliases, old := 0, ""
	for _, file := range files {
		var conf registries
		if _, err := u.parse(file, &conf); err != nil {
			return u.broken(idRegistries, err)
		}
		// podman takes the old format for the main file only, and not mixed with the new one.
		if conf.V1RegistriesConf.Nonempty() {
			if old = file.String(); file.dropIn || conf.V2RegistriesConf.Nonempty() {
				return u.broken(idRegistries, &fault{file, errors.New("version 1 of the format, which podman takes only where there is nothing else")})
			}
			conf.UnqualifiedSearchRegistries = conf.Search.Registries
		}
		if conf.UnqualifiedSearchRegistries != nil {
			search = conf.UnqualifiedSearchRegistries
		}
		aliases += len(conf.Aliases)
	}
	f := finding.Good(idRegistries, u.Name, "images without a registry are looked for at %s", finding.Printable(strings.Join(search, ", ")))
	if len(search) == 0 {
		f.Seen = fmt.Sprintf("images need their full names, but for %d aliases", aliases)
	}
	if old != "" {
		f.Status, f.Seen = finding.Warn, old+" has version 1 of the format"
		f.Why, f.Remedy.Advice = "it is obsolete, and nothing can be added to it", "write it in version 2 (containers-registries.conf(5))"
	}
	return f
}

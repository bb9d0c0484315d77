package cli

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/urfave/cli/v2"

	"github.com/meshd/meshd/internal/config"
)

func filesFlag() cli.Flag {
	return &cli.StringSliceFlag{Name: "file", Aliases: []string{"f"},
		Usage: "read `FILE`: a YAML file, a folder of *.yaml files, or - for standard input (repeat for more)"}
}

// readResources reads all resources of the files given. Mistakes in any of
// them are one error, so that a person sees them all at once.
func readResources(c *cli.Context) ([]config.Document, error) {
	if c.Args().Present() {
		return nil, usagef(c, "%q is no option: files are given as -f %s", c.Args().First(), c.Args().First())
	}
	paths, err := expand(c.StringSlice("file"))
	if err != nil {
		return nil, err
	}
	if len(paths) == 0 {
		return nil, usagef(c, "no file is given: use -f FILE")
	}
	var docs []config.Document
	var problems config.Problems
	for _, path := range paths {
		found, err := readFile(c, path)
		var here config.Problems
		switch {
		case errors.As(err, &here):
			problems = append(problems, here...)
		case err != nil:
			return nil, err
		}
		docs = append(docs, found...)
	}
	if len(problems) > 0 {
		return nil, mistaken(c, problems)
	}
	return docs, nil
}

func readFile(c *cli.Context, path string) ([]config.Document, error) {
	data, err := readSource(c, path)
	if err != nil {
		return nil, fileFailure(path, err)
	}
	return config.DecodeResources(path, data)
}

func readSource(c *cli.Context, path string) ([]byte, error) {
	if path == "-" {
		return io.ReadAll(io.LimitReader(c.App.Reader, 1<<20+1))
	}
	return config.ReadFile(path)
}

func fileFailure(path string, err error) error {
	var problems config.Problems
	if errors.As(err, &problems) {
		return problems
	}
	var pathError *fs.PathError
	if errors.As(err, &pathError) {
		err = pathError.Err
	}
	return &failure{what: "cannot read " + path, cause: err, next: "check the name and who may read it"}
}

// expand puts a folder's files in its place, in the order of their names.
func expand(paths []string) ([]string, error) {
	var files []string
	for _, path := range paths {
		if info, err := os.Stat(path); path == "-" || err != nil || !info.IsDir() {
			files = append(files, path)
			continue
		}
		found, err := yamlFiles(path)
		if err != nil {
			return nil, err
		}
		files = append(files, found...)
	}
	return files, nil
}

func yamlFiles(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fileFailure(dir, err)
	}
	var files []string
	for _, e := range entries {
		if slices.Contains([]string{".yaml", ".yml"}, filepath.Ext(e.Name())) && !e.IsDir() {
			files = append(files, filepath.Join(dir, e.Name()))
		}
	}
	if len(files) == 0 {
		return nil, &failure{what: "there is no *.yaml file in " + dir, next: "name the files: -f FILE"}
	}
	return files, nil
}

// mistaken prints mistakes where they stand and gives the error that ends the
// command.
func mistaken(c *cli.Context, err error) error {
	fmt.Fprintln(c.App.ErrWriter, err)
	var problems config.Problems
	errors.As(err, &problems)
	return &failure{what: count(len(problems), "mistake") + " found", next: "correct what is marked above, then run the same command again"}
}

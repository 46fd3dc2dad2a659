package preflight

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/shoenig/test/must"
)

// The table of docs/preflight.md has the IDs of all findings, and no others.
func TestIDsAreDocumented(t *testing.T) {
	text, err := os.ReadFile("../docs/preflight.md")
	must.NoError(t, err)
	documented := map[string]bool{}
	for _, match := range regexp.MustCompile("(?m)^\\| `([a-z-]+)` \\|").FindAllStringSubmatch(string(text), -1) {
		must.False(t, documented[match[1]], must.Sprint(match[1]))
		documented[match[1]] = true
	}
	ids, literals := map[string]token.Position{}, map[string]bool{}
	files := token.NewFileSet()
	must.NoError(t, filepath.WalkDir("..", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(files, path, nil, 0)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(node ast.Node) bool {
			if text, is := literal(node); is {
				literals[text] = true
			}
			for _, expression := range idsOf(node) {
				if id, is := literal(expression); is {
					ids[id] = files.Position(node.Pos())
				}
			}
			return true
		})
		return nil
	}))
	must.MapNotEmpty(t, ids)
	for id, where := range ids {
		must.True(t, documented[id], must.Sprintf("docs/preflight.md does not have %q of %s", id, where))
	}
	for id := range documented {
		must.True(t, literals[id], must.Sprintf("docs/preflight.md has %q, which nothing finds", id))
	}
}

// idsOf are the expressions of findings' IDs: where a finding is made, and in constants that are called id, or idSomething.
func idsOf(node ast.Node) []ast.Expr {
	switch node := node.(type) {
	case *ast.CallExpr:
		if function, is := node.Fun.(*ast.SelectorExpr); is && len(node.Args) > 1 && isFinding(function) {
			return node.Args[:1]
		}
	case *ast.CompositeLit:
		if kind, is := node.Type.(*ast.SelectorExpr); is && isFinding(kind) {
			for _, element := range node.Elts {
				pair, is := element.(*ast.KeyValueExpr)
				if !is {
					continue
				}
				if key, is := pair.Key.(*ast.Ident); is && key.Name == "ID" {
					return []ast.Expr{pair.Value}
				}
			}
		}
	case *ast.ValueSpec:
		if name := node.Names[0].Name; regexp.MustCompile("^id([A-Z].*)?$").MatchString(name) {
			return node.Values[:min(1, len(node.Values))]
		}
	}
	return nil
}

func isFinding(s *ast.SelectorExpr) bool {
	from, is := s.X.(*ast.Ident)
	if !is || from.Name != "finding" {
		return false
	}
	switch s.Sel.Name {
	case "Good", "Skip", "Unknown", "Finding":
		return true
	}
	return false
}

func literal(node ast.Node) (string, bool) {
	basic, is := node.(*ast.BasicLit)
	if !is || basic.Kind != token.STRING {
		return "", false
	}
	text, err := strconv.Unquote(basic.Value)
	return text, err == nil
}

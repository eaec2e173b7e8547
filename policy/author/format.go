package author

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/hclwrite"

	"github.com/sallyport/sallyport/policy/bundle"
	"github.com/sallyport/sallyport/policy/strict"
)

// Format returns the files below dir/policy that are not in the one style, as they
// would be. Where write is true it writes them, too. A file that does not parse is left.
func Format(dir string, write bool) (map[string][]byte, error) {
	files, err := bundle.ReadPolicy(dir)
	if err != nil {
		return nil, err
	}
	changed := map[string][]byte{}
	for _, name := range strict.SortedKeys(files) {
		if !strings.HasSuffix(name, ".hcl") {
			continue
		}
		if _, diags := hclsyntax.ParseConfig(files[name], name, hcl.InitialPos); diags.HasErrors() {
			return nil, strict.Err(diags)
		}
		text := hclwrite.Format(files[name])
		if bytes.Equal(text, files[name]) {
			continue
		}
		changed[name] = text
		if write {
			if err := os.WriteFile(filepath.Join(dir, filepath.FromSlash(name)), text, 0o644); err != nil {
				return nil, fmt.Errorf("write %s: %w", name, err)
			}
		}
	}
	return changed, nil
}

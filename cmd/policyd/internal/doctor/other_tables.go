package doctor

import (
	"context"
	"strings"
)

// checkOtherTables tests the site's own tables: if Postfix cannot use one of them, mail waits too. A failure counts
// only for root, because others may not be allowed to read the table. Other checks are for guards and policyd's maps.
func (e *exam) checkOtherTables(ctx context.Context) {
	for _, parameter := range []string{policyMaps, transportMaps} {
		for _, t := range e.tables(parameter, e.params[parameter]) {
			if t.ours || parameter == transportMaps && t.pattern { // a guard
				continue
			}
			table := strings.TrimPrefix(t.text, "proxy:")
			if noTable(table) {
				e.found("postmap-fails", parameter+" has \""+table+"\", which is not a table (type:name)",
					e.correction(parameter))
			} else if _, err := e.commands.Query(ctx, table, []string{notNexthop}); err != nil && e.User == 0 {
				e.found("postmap-fails", parameter+" has "+table+": "+err.Error(),
					"# correct the table, or remove it from "+parameter)
			}
		}
	}
}

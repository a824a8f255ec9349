package doctor

import (
	"context"
	"fmt"
	"strings"
)

// checkOtherTables tests the site's own tables: if Postfix cannot use one of them, mail waits too. A failure counts
// only for root, because others may not be allowed to read the table. Other checks are for guards and policyd's maps.
func (e *exam) checkOtherTables(ctx context.Context) {
	for _, parameter := range []string{policyMaps, transportMaps} {
		for _, t := range e.tables(parameter, e.params[parameter]) {
			guard := parameter == transportMaps && t.pattern
			if guard || t.ours {
				continue
			}
			table := strings.TrimPrefix(t.text, "proxy:")
			if !strings.Contains(table, ":") {
				e.found("postmap-fails", fmt.Sprintf("%s has %q, which is not of the form type:name", parameter, table),
					e.correction(parameter))
			} else if _, err := e.commands.Query(ctx, table, []string{notNexthop}); err != nil && e.User == 0 {
				e.found("postmap-fails", parameter+" has "+table+": "+err.Error(),
					"# correct the table, or remove it from "+parameter)
			}
		}
	}
}

// Joins the parts of the page.
import { startDocs } from "./docs.js";
import { startKey } from "./key.js";
import { startLanguage } from "./language.js";
import { look, seen, startLive } from "./live.js";
import { startMatch } from "./match.js";
import { startSearch } from "./search.js";
import { startSentiment } from "./sentiment.js";
import { startShortcuts } from "./shortcuts.js";

startLanguage();
startKey(look);
startSearch(seen);
startMatch();
startSentiment();
startShortcuts();
startLive().then(startDocs);

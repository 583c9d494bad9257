// Starts the page.

import { startCompare } from "./compare.js";
import { startFolder } from "./folder.js";
import { startKey } from "./key.js";
import { showModel } from "./model.js";
import { refuseStrayDrops } from "./picker.js";
import { startTables } from "./tables.js";
import { startTabs } from "./tabs.js";
import { startTheme } from "./theme-button.js";

startTheme();
startKey();
refuseStrayDrops();
startCompare();
startFolder();
startTables();
startTabs();
delete document.documentElement.dataset.starting;
showModel();

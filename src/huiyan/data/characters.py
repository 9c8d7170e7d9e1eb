"""The characters that most of any Chinese or Japanese text is made of: what tells a right decoding from a wrong one.

About two thirds of running Chinese text falls on the few hundred characters below; text decoded with the wrong table
falls on them by chance only. The lists are our own, put together from general knowledge of the language: news, prose
and shop reviews agree on nearly all of them, and the exact choice does not matter for telling encodings apart.
"""

# Common in simplified text, roughly by frequency; those that traditional text shares stand here too.
_SIMPLIFIED = (
    "的一是不了在人有我他这个们中来上大为和国地到以说时要就出会可也你对生能而子那得于着下自之年过发后作里"
    "用道行所然家种事成方多经么去法学如都同现当没动面起看定天分还进好小部其些主样理心她本前开但因只从想实"
    "日军者意无力它与长把机十民第公此已工使情明性知全三又关点正业外将两高间由问很最重并物手应战向头文体政"
    "美相见被利什二等产或新己制身果加西斯月话合回特代内信表化老给世位次度门任常先海通教儿原东声提立及比员"
    "解水名真论处走义各入几口认条平系气题活尔更别打女变四神总何电数安少报才结反受目太量再感建务做接必场件"
    "计管期市直德资命山金指克许统区保至队形社便空决治展马科司五基眼书非则听白却界达光放强即像难且权思王象"
    "完设式色路记南品住告类求据程北边死张该交规万取拉格望觉术领共确传师观清今切院让识候带导争运笔"
    "件快服务店质量买卖价钱差评送货包装味吃喜欢漂亮舒适满意推荐客态度房间酒店餐菜电影故事演员手机电脑屏"
    "网络新闻公司市场经济发布会议报道记者表示国际中心城市企业投资增长万亿元年月日号码先生女士请谢谢您吗呢"
    "吧啊哦嗯每次件套双款尺寸颜色红黄蓝绿黑白大小长短高低多少早晚左右前后里外轻松简单方便错误问题解决办法"
    "希望相信觉得知道可能应该已经非常特别比较真正完全其实只是不过虽然但是因为所以如果或者而且根据关于通过"
    "足球比赛队员教练医院病人学校老师学生孩子父母朋友爱情婚姻生命健康环境保护政府法律社会历史文化艺术音乐"
)

# The traditional forms of those that differ, and a few that only traditional text uses much.
_TRADITIONAL = (
    "這個們來為國說時會對過發後裡裏種學還進樣開從實軍無與長機關點業將兩間問並應戰頭體見產給門兒東聲員"
    "論處義幾認條係繫氣題爾別變總電數報結務場計資許統區隊決達馬書則聽卻強難權設記類據邊張該規萬領確傳師觀"
    "讓識導爭運筆質買賣價錢評貨裝歡滿薦態飯網絡聞濟佈議報際業投資億號碼請謝嗎麼沒現當動經歷於著里面"
    "雙寸顏紅黃藍綠輕鬆簡單錯誤決辦覺雖較補賽練醫學愛親環護藝術樂歷史臺台灣香港證據檢驗樓廳廚鐵車輛"
    "圖畫連選擇參與積極負責任聯繫絕對維護縣鄉鎮華語課講讀寫詞語誰誠實貴費贊賞轉輪農達違遠適遲遺郵鄰鐘"
    "隨險雜離雲靈靜頁順須預頻顯風飛養館驚魚鳥麗齊獨獎勞勝勢勵區協歲殘殺氣沖況減滅準溫湯潔濕災烏無熱營爺"
)

_KANA = "".join(map(chr, (*range(0x3042, 0x3094), *range(0x30A2, 0x30F4), 0x30FC)))
_PUNCTUATION = "，。、；：？！“”‘’（）《》〈〉【】「」『』—…·～　￥"  # noqa: RUF001 - these are the very characters meant
_WESTERN = "àáâãäåæçèéêëìíîïñòóôõöøùúûüßœÀÁÂÄÅÆÇÈÉÊËÍÎÑÓÔÖØÚÜŒ–—‘’“”•…€£©®°«»¿¡·"

COMMON = frozenset(_SIMPLIFIED + _TRADITIONAL + _KANA + _PUNCTUATION)
"""Common characters above ASCII of Chinese and Japanese text."""

COMMON_WESTERN = frozenset(_WESTERN)
"""Common characters above ASCII of western European text."""
